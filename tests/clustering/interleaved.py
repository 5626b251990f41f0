"""Programs of one launch side by side, in Triton's interpreter, which runs one after the other.

There a kernel whose programs wait for each other would never end. Here each program is a thread, of
which one runs at a time; between two accesses to memory another may take over, by chance.
"""

from __future__ import annotations

import contextlib
import inspect
import random
import threading
from collections.abc import Callable, Iterator

import pytest
from triton.runtime import interpreter

#: What programs see of each other.
ACCESSES = (
    'create_load',
    'create_store',
    'create_masked_load',
    'create_masked_store',
    'create_atomic_cas',
    'create_atomic_rmw',
)


class TakingTurns:
    """Programs of which one runs at a time.

    Args:
        dice (random.Random): Says which, and how long.
    """

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.accesses_left = 0
        #: Of each thread: what it waits for, and its program.
        self.waiting: dict[threading.Thread, tuple[threading.Semaphore, int]] = {}
        self.ended = threading.Semaphore(0)
        self.failure: BaseException | None = None

    def run(self, function: Callable[[], object], programs: int) -> None:
        """Run all programs of a launch to their ends."""
        for program in range(programs):
            thread = threading.Thread(target=self._run_one, args=[function], daemon=True)
            self.waiting[thread] = threading.Semaphore(0), program
        for thread in list(self.waiting):
            thread.start()
        self._hand_over()
        self.ended.acquire()
        self.waiting.clear()
        if self.failure:
            raise self.failure

    def before_access(self, may_wait: bool) -> None:
        """Let another program go first, perhaps; always where this one may be waiting for it."""
        self.accesses_left -= 1
        if self.accesses_left < 0 or may_wait:
            self._hand_over()
            self._wait()

    def _run_one(self, function: Callable[[], object]) -> None:
        self._wait()
        try:
            function()
        except BaseException as failure:
            self.failure = failure
        del self.waiting[threading.current_thread()]
        self._hand_over()

    def _wait(self) -> None:
        turn, program = self.waiting[threading.current_thread()]
        turn.acquire()
        interpreter.interpreter_builder.set_grid_idx(program, 0, 0)

    def _hand_over(self) -> None:
        if self.failure or not self.waiting:
            self.ended.release()
            return
        # A few accesses or very many, so that some programs come to be far ahead of others.
        self.accesses_left = int(self.dice.paretovariate(0.7))
        turn, _ = self.dice.choice(list(self.waiting.values()))
        turn.release()


@contextlib.contextmanager
def interleaved(seed: int) -> Iterator[None]:
    """Inside, the programs of a launch (of one dimension, on host tensors) take turns."""
    turns = TakingTurns(random.Random(seed))

    def launch(executor, *args, **kwargs):
        names = inspect.getfullargspec(executor.fn).args
        kwargs = {name: value for name, value in kwargs.items() if name in names}
        arguments = {
            name: value if name in executor.constexprs else interpreter._implicit_cvt(value)
            for name, value in inspect.getcallargs(executor.fn, *args, **kwargs).items()
        }
        interpreter.interpreter_builder.set_grid_dim(*executor.grid, 1, 1)
        patched = interpreter._patch_lang(executor.fn)
        try:
            turns.run(lambda: executor.fn(**arguments), executor.grid[0])
        finally:
            patched.restore()

    def watched(name):
        access = getattr(interpreter.InterpreterBuilder, name)

        def watching(self, *args, **kwargs):
            turns.before_access(may_wait='atomic' in name)
            return access(self, *args, **kwargs)

        return watching

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter.GridExecutor, '__call__', launch)
        for name in ACCESSES:
            patch.setattr(interpreter.InterpreterBuilder, name, watched(name))
        yield
