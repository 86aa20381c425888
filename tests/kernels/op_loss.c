typedef int dc_unused;
