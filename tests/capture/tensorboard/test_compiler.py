"""A function that is compiled with torch.compile, and logs."""

from programs import run_program


def test_our_wrappers_cost_no_warning_and_no_graph_break():
    """Dynamo calls them as it calls the library's methods, whether it was imported after the run began or before."""
    ended = run_program("""
        import sys, warnings
        import torch
        import tracelet
        from torch.utils.tensorboard import SummaryWriter

        def breaks_and_warnings(log):
            writer = SummaryWriter("logs")

            def step(data):
                doubled = data * 2
                writer.add_scalar("loss", 1.0, 1)
                doubled = doubled + 1
                writer.add_histogram("data", doubled, 1)
                doubled = doubled + 1
                SummaryWriter("others").close()
                doubled = doubled + 1
                log()
                return doubled + 1

            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                torch.compile(step, backend="eager")(torch.ones(4))
            counters = torch._dynamo.utils.counters["graph_break"]
            breaks = sum(counters.values())
            counters.clear()
            torch._dynamo.reset()
            return breaks, [str(each.message) for each in caught]

        assert "torch._dynamo.trace_rules" not in sys.modules
        found = []
        for events in ("sync", "async", False):
            with tracelet.start_logging(events=events) as experiment:
                found.append(breaks_and_warnings(lambda: experiment.log_metric("other", 1.0)))
                assert 3 + (events is not False) >= experiment.stats().submitted >= 3, experiment.stats()
        plain = breaks_and_warnings(torch._dynamo.graph_break)
        assert [plain] * 3 == found, (plain, found)
    """)
    assert 0 == ended.returncode, ended.err
