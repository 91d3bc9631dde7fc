"""Standard times since programming, in seconds."""

T0_S = 0.0
SECOND_S = 1.0
HOUR_S = 3_600.0
DAY_S = 86_400.0
MONTH_S = 30 * DAY_S
YEAR_S = 365 * DAY_S
