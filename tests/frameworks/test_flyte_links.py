"""Links of tasks in Flyte's UI: the pages that they lead to, by decorator and context."""

import flyte
import pytest
from frameworks.flyte_tasks import run_task

from tracelet.integrations.flyte import (
    RunLink,
    Wandb,
    WandbSweep,
    run_config,
    track,
    wandb_config,
    wandb_init,
    wandb_sweep,
    wandb_sweep_config,
)

env = flyte.TaskEnvironment(name="links")
HOST = "https://wandb.ai"
PLACE = {"project": "p", "entity": "team"}
PAGE = f"{HOST}/team/p"
BASE = "job-{{.actionName}}"
PARENT = {"_wandb_run_id": "parent"}


class Elastic:
    """The configuration of the Elastic plugin, which is not installed here."""

    def __init__(self, nnodes, nproc_per_node):
        self.nnodes, self.nproc_per_node = nnodes, nproc_per_node


def page(link, context=None):
    """The link as Flyte asks for it when it submits a task."""
    return link.get_link(
        run_name="job",
        project="flyte-project",
        domain="development",
        context=context,
        parent_action_name="a0",
        action_name="{{.actionName}}",
        pod_name="{{.podName}}",
    )


@pytest.mark.parametrize(
    ("arguments", "context", "expected"),
    [
        # Project, entity and host.
        (PLACE, None, f"{PAGE}/runs/{BASE}"),
        (PLACE, {}, f"{PAGE}/runs/{BASE}"),
        ({}, wandb_config(**PLACE), f"{PAGE}/runs/{BASE}"),
        (PLACE, wandb_config(project="q", entity="other"), f"{PAGE}/runs/{BASE}"),
        ({"project": "p"}, wandb_config(entity="team"), f"{PAGE}/runs/{BASE}"),
        ({"project": "p"}, {}, HOST),
        ({"entity": "team"}, {}, HOST),
        ({}, {}, HOST),
        ({"project": "my p", "entity": "team"}, {}, f"{HOST}/team/my%20p/runs/{BASE}"),
        ({**PLACE, "host": "https://own.example/"}, {}, f"https://own.example/team/p/runs/{BASE}"),
        (PLACE, wandb_config(host="https://c.example"), f"https://c.example/team/p/runs/{BASE}"),
        ({**PLACE, "host": "https://d.example"}, wandb_config(host="https://c.example"),
         f"https://c.example/team/p/runs/{BASE}"),
        ({}, wandb_config(host="https://c.example"), "https://c.example"),
        # Run modes.
        ({**PLACE, "run_mode": "auto"}, PARENT, f"{PAGE}/runs/parent"),
        ({**PLACE, "run_mode": "new"}, PARENT, f"{PAGE}/runs/{BASE}"),
        ({**PLACE, "run_mode": "shared"}, PARENT, f"{PAGE}/runs/parent"),
        ({**PLACE, "run_mode": "shared"}, {}, PAGE),
        # Ids.
        ({**PLACE, "id": "mine"}, {}, f"{PAGE}/runs/mine"),
        (PLACE, wandb_config(id="theirs"), f"{PAGE}/runs/theirs"),
        (PLACE, wandb_config(id="1e5"), f"{PAGE}/runs/1e5"),
        ({**PLACE, "id": "mine"}, wandb_config(id="theirs"), f"{PAGE}/runs/mine"),
        ({**PLACE, "id": "mine"}, PARENT, f"{PAGE}/runs/parent"),
        ({**PLACE, "id": "mine", "run_mode": "new"}, PARENT, f"{PAGE}/runs/mine"),
        ({**PLACE, "run_mode": "new"}, {**PARENT, **wandb_config(id="parent")}, f"{PAGE}/runs/{BASE}"),
        # From the context alone: defect (iv) of the plugin.
        (PLACE, {**PARENT, **wandb_config(run_mode="new")}, f"{PAGE}/runs/{BASE}"),
        (PLACE, wandb_config(run_mode="shared"), PAGE),
        ({**PLACE, "run_mode": "new"}, {**PARENT, **wandb_config(run_mode="shared")}, f"{PAGE}/runs/{BASE}"),
    ],
)  # fmt: skip
def test_the_page_of_a_task(arguments, context, expected):
    assert expected == page(Wandb(**arguments), context)


@pytest.mark.parametrize(
    ("mode", "scope", "worker", "expected"),
    [
        ("auto", "global", None, f"runs/{BASE}"),
        ("auto", "worker", 1, f"runs/{BASE}-worker-1"),
        ("shared", "global", None, f"runs/{BASE}"),
        ("shared", "worker", 1, f"runs/{BASE}-worker-1"),
        ("new", "global", None, f"groups/{BASE}"),
        ("new", "worker", 1, f"groups/{BASE}-worker-1"),
    ],
)
@pytest.mark.parametrize("given", ["decorator", "context"])
def test_the_page_of_a_distributed_task(mode, scope, worker, expected, given):
    """It leads to the run or group of the table of ids. From the context too: defect (iv) of the plugin. There, the
    number of links is known too late: the one link of a task leads to the first node."""
    own = {"run_mode": mode, "rank_scope": scope}
    if given == "decorator":
        link, context = Wandb(**PLACE, **own, _is_distributed=True, _nodes=2, _worker_index=worker), {}
    else:
        link, context = Wandb(**PLACE, _is_distributed=True, _nodes=2), wandb_config(**own)
        expected = expected.replace("worker-1", "worker-0")
    assert f"{PAGE}/{expected}" == page(link, context)
    expected_with_id = expected.replace(BASE, "mine")
    link.id = "mine"
    assert f"{PAGE}/{expected_with_id}" == page(link, context)


def test_a_node_counts_in_the_scope_worker_only():
    assert f"{PAGE}/runs/{BASE}" == page(Wandb(**PLACE, _is_distributed=True, _worker_index=1), {})


def test_a_distributed_task_has_no_run_of_its_parent():
    assert f"{PAGE}/runs/{BASE}" == page(Wandb(**PLACE, _is_distributed=True), PARENT)


def test_defaults():
    link = Wandb()
    assert ("auto", "global", HOST, None, None) == (link.run_mode, link.rank_scope, link.host, link.project, link.id)
    assert link.name
    assert link.icon_uri


def decorated(plugin_config=None, decorator=wandb_init, **arguments):
    """A task with a decorator, and with the plugin's configuration that a cluster would have."""

    @env.task
    def task() -> int:
        return 1

    task.plugin_config = plugin_config
    return decorator(**arguments)(task)


@pytest.mark.parametrize(
    ("nodes", "per_node", "scope", "count"),
    [(2, 4, "worker", 2), ("1:4", "4", "worker", 4), (2, 4, "global", 1), (1, 4, "worker", 1), (2, "gpu", None, 1)],
)
def test_a_task_has_a_link_for_each_node_of_the_scope_worker(nodes, per_node, scope, count):
    links = decorated(Elastic(nodes, per_node), rank_scope=scope, **PLACE).links
    ends = [f"-worker-{index}" for index in range(count)] if count > 1 else [""]
    assert [f"{PAGE}/runs/{BASE}{end}" for end in ends] == [page(link, {}) for link in links]
    titles = [f"{Wandb.name} Worker {index}" for index in range(count)] if count > 1 else [Wandb.name]
    assert titles == [link.name for link in links]


def test_an_explicit_default_of_the_decorator_wins_over_the_context():
    (link,) = decorated(run_mode="auto", **PLACE).links
    assert f"{PAGE}/runs/{BASE}" == page(link, wandb_config(run_mode="shared"))
    (link,) = decorated(**PLACE).links
    assert PAGE == page(link, wandb_config(run_mode="shared"))


def test_other_links_of_the_task_stay():
    @env.task(links=[other := Wandb(project="other")])
    def task() -> int:
        return 1

    assert other is wandb_init(task).links[0]
    assert 2 == len(task.links)


@pytest.mark.parametrize(
    ("arguments", "variables", "context", "expected"),
    [
        ({"backend": "wandb", **PLACE}, {}, {}, f"{PAGE}/runs/{BASE}"),
        ({**PLACE}, {}, run_config(backend="wandb"), f"{PAGE}/runs/{BASE}"),
        ({**PLACE}, {"TRACELET_BACKEND": "wandb"}, {}, f"{PAGE}/runs/{BASE}"),
        ({"backend": "mlflow"}, {"MLFLOW_TRACKING_URI": "http://m.example:5000"}, {}, "http://m.example:5000"),
        ({"backend": "mlflow", "backend_url": "http://d.example"}, {}, {}, "http://d.example"),
        ({"backend": "mlflow", "backend_url": "http://d.example"}, {}, run_config(host="http://c.example"),
         "http://c.example"),
        ({"backend": "mlflow"}, {"MLFLOW_TRACKING_URI": "sqlite:///m.db"}, {}, ""),
        ({"backend": "clearml"}, {"CLEARML_WEB_HOST": "https://app.clear.ml"}, {}, "https://app.clear.ml"),
        ({"backend": "aim", "backend_url": "http://aim.example"}, {}, {}, "http://aim.example"),
        ({}, {"MLFLOW_TRACKING_URI": "http://m.example"}, run_config(backend="mlflow"), "http://m.example"),
        ({}, {}, {}, ""),
    ],
)  # fmt: skip
def test_the_link_of_any_backend(arguments, variables, context, expected, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (link,) = decorated(decorator=track, **arguments).links
    assert expected == page(link, context)


def test_a_backend_without_pages_has_no_link():
    assert () == decorated(decorator=track, backend="csv").links
    assert isinstance(decorated(decorator=track).links[0], RunLink)


# Sweeps.


@pytest.mark.parametrize(
    ("arguments", "context", "expected"),
    [
        (PLACE, {}, f"{PAGE}/sweeps"),
        (PLACE, {"_wandb_sweep_id": "s1"}, f"{PAGE}/sweeps/s1"),
        ({**PLACE, "id": "s2"}, {"_wandb_sweep_id": "s1"}, f"{PAGE}/sweeps/s2"),
        ({}, wandb_config(**PLACE), f"{PAGE}/sweeps"),
        ({}, wandb_sweep_config(**PLACE), f"{PAGE}/sweeps"),
        ({}, {**wandb_config(project="q", entity="other"), **wandb_sweep_config(**PLACE)}, f"{PAGE}/sweeps"),
        ({"project": "p"}, {}, HOST),
        ({}, wandb_config(host="https://c.example"), "https://c.example"),
        (PLACE, wandb_config(host="https://c.example"), "https://c.example/team/p/sweeps"),
    ],
)
def test_the_page_of_a_sweep(arguments, context, expected):
    assert expected == page(WandbSweep(**arguments), context)


def test_a_sweep_task_has_the_link():
    (link,) = decorated(decorator=wandb_sweep, **PLACE).links
    assert isinstance(link, WandbSweep)
    assert f"{PAGE}/sweeps" == page(link, None)


# The link and the run have the same id.


@track(backend="csv", project="p")
@env.task
def with_run() -> list[str]:
    task = flyte.ctx()
    link = Wandb(**PLACE)
    where = {"project": "", "domain": "", "parent_action_name": "", "pod_name": "", "context": {}}
    uri = link.get_link(run_name=task.action.run_name, action_name=task.action.name, **where)
    from tracelet.integrations.flyte import get_run

    return [uri, get_run().run_id]


@pytest.mark.parametrize("name", ["job", "6d56c4e6-b989-40b4-b75b-27fed15cbc7f", "r" * 80])
def test_the_link_leads_to_the_run(name):
    """Also where Flyte's names are longer than an id of a run."""
    uri, run_id = run_task(with_run, name=name)
    assert f"{PAGE}/runs/{run_id}" == uri
