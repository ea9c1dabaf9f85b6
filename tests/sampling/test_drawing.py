"""What a sampler tells of the completions it draws, while it draws them."""

from purified_opsd.sampling.drawing import report_drawn, reporting


def test_every_token_and_every_completion_is_reported_once(adapted_setup):
    told = []
    prompts = [[5, 6, 7], [8, 9], [10, 11, 12, 13], [14], [15, 16]]
    sampler = adapted_setup.sampler
    before = sampler.generate(prompts, range(5))
    with reporting(lambda tokens, ended: told.append((tokens, ended))):
        completions = sampler.generate(prompts, range(5))
    assert completions == before  # to listen changes nothing
    assert sum(tokens for tokens, _ in told) == sum(len(c.ids) for c in completions)
    assert sum(ended for _, ended in told) == len(completions)
    assert len(told) == max(len(c.ids) for c in completions)  # one batch: a report a token


def test_nobody_is_told_after_the_end():
    told = []
    with reporting(lambda tokens, ended: told.append(tokens)):
        report_drawn(3, ended=1)
    report_drawn(4, ended=1)
    assert told == [3]
