"""Plays a scene on several queues side by side."""

import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.losses.back_ends import BACK_ENDS
from tests.observability.scenes import Play, Scene, Seen
from tests.observability.stage import stage


@pytest.fixture(scope="module")
def play(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Play a scene on every queue that the chosen tests ask for."""
    params = [getattr(getattr(item, "callspec", None), "params", {}) for item in request.session.items]
    wanted = [name for name in BACK_ENDS if name in {given.get("back_end") for given in params}]

    def play_all(watcher: str, scene: Scene, files: tuple[str, ...]) -> Mapping[str, Seen]:
        folders = [tmp_path_factory.mktemp(f"{watcher}-{name}") for name in wanted]  # not safe in threads

        def play_on(name: str, folder: Path) -> Seen:
            seen = Seen()
            try:
                with stage(BACK_ENDS[name], folder, watcher) as on:
                    seen.jobs = scene(on)
                    seen.lines = {file: on.lines(file) for file in files}
            except Exception:
                seen.error = traceback.format_exc()
            return seen

        with ThreadPoolExecutor(len(wanted)) as threads:
            return dict(zip(wanted, threads.map(play_on, wanted, folders), strict=True))

    return play_all
