gm_api_test(fault/whole)
