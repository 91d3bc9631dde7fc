from analogmed.config import SweepConfig


def test_the_readings_of_a_sweep_are_all_reads_at_each_time():
    sweep = SweepConfig(times_s=("1 day", 0), reads=2)
    assert sweep.readings == ((0.0, 0), (0.0, 1), (86_400.0, 0), (86_400.0, 1))
