/* tests/kernels/quant_golden.h -- made by quant_golden.py with gguf 0.19.0, numpy 2.4.6. */
static const golden_read golden_reads[] = {
    {DC_Q4_0, 0xf1f2520cb8c9c26fu, {-0x1.7340000000000p+3f, -0x1.7340000000000p+3f, -0x1.7340000000000p+3f}},
    {DC_Q4_1, 0x820d3de4286126b5u, {0x1.f098800000000p+1f, 0x1.b186200000000p+3f, 0x1.9880000000000p-7f}},
    {DC_Q5_0, 0xb4e5584a1dd953bdu, {-0x1.ef00000000000p+4f, 0x1.ef00000000000p+3f, -0x1.3560000000000p+4f}},
    {DC_Q5_1, 0x50fac1685e34cb51u, {0x1.73a6200000000p+3f, 0x1.c0b1880000000p+5f, 0x1.b186200000000p+3f}},
    {DC_Q8_0, 0x05c1fcece954fb50u, {0x1.7afc000000000p+7f, 0x1.06f8000000000p+6f, -0x1.63c8000000000p+6f}},
    {DC_Q2_K, 0x95a0b4e83d5de379u, {-0x1.9338000000000p-4f, -0x1.9338000000000p-4f, 0x1.9650000000000p-5f}},
    {DC_Q3_K, 0x133d84fd5107a8b4u, {0x1.a81a000000000p+2f, -0x1.1abc000000000p+2f, 0x1.1abc000000000p+1f}},
    {DC_Q4_K, 0xfab0a8ee8790c200u, {0x1.7e2daa0000000p+8f, 0x1.e5eb540000000p+7f, 0x1.3891aa0000000p+8f}},
    {DC_Q5_K, 0xf370101446abff58u, {0x1.5bb5d40000000p+9f, 0x1.6d1cd40000000p+9f, 0x1.a151d40000000p+9f}},
    {DC_Q6_K, 0x1767aa3502e5fb91u, {0x1.0f6f800000000p+4f, 0x1.534b600000000p+4f, -0x1.3cacc00000000p+4f}},
};

static const golden_write golden_writes[] = {
    {DC_Q8_0, 0x2bd93c1fa5a8d398u, {0x00, 0x00, 0xfe, 0x78, 0x6b, 0xc4}},
    {DC_Q4_0, 0x5868e4a7566f5416u, {0x02, 0x80, 0x18, 0xe0, 0xf1, 0x0c}},
    {DC_F16, 0x2b8e077aa49d2101u, {0x00, 0x80, 0x0f, 0x00, 0x0d, 0x00}},
    {DC_BF16, 0x1bb3e2de7f3dec09u, {0x5e, 0xb2, 0x69, 0x35, 0x50, 0x35}},
};
