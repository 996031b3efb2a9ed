/* placeholder until the first format lands */ typedef int kd_formats_unit;
