from adapters.rq.tests.support import Harness


def test_x(rq: Harness) -> None:
    ref = rq.host.sync.enqueue({"organization_id": "o", "actor_id": "u", "steps": ["ok:x"]})
    rq.worker()
    rq.wait(ref.id)
    print(rq.runs(), rq.audit(), rq.results(ref.id), rq.places(ref.id))
    assert rq.results(ref.id)[0].return_value == "x"
