from purified_opsd.data.seeds import seed_for


def test_a_seed_is_the_same_everywhere():
    assert seed_for(0, "rollout", 3, 7) == 855238105019749950


def test_every_part_of_the_key_counts():
    keys = [
        (0, "rollout", 1, 2),
        (1, "rollout", 1, 2),
        (0, "order", 1, 2),
        (0, "rollout", 2, 1),
        (0, "rollout", 12),
        (0, "rollout", "1", 2),
    ]
    assert len({seed_for(*key) for key in keys}) == len(keys)


def test_seeds_fit_a_signed_64_bit_integer():
    assert all(0 <= seed_for(0, "x", i) < 2**63 for i in range(1000))
