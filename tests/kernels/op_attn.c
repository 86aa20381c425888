void test_attn_fwd(void**s);void test_attn_bwd(void**s);void test_attn_decode(void**s);void test_loss(void**s);
void test_attn_fwd(void**s){(void)s;}void test_attn_bwd(void**s){(void)s;}void test_attn_decode(void**s){(void)s;}void test_loss(void**s){(void)s;}
