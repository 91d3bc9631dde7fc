"""Networks that classify sequences such as the leads of an ECG."""
