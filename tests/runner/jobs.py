# SPDX-License-Identifier: GPL-2.0
"""What takes long is a job: a thread that tells its results as they come. As many run at a time as there are places (JOBS, as
many as CPUs by default), in the order in which they were started, so that no CPU waits while anything is left to do, and none
is wanted by much more. What they tell is shown later, in an order of its own.
"""

import os
import queue
import threading


class Job:
    """Something to be done by `work`, which calls `tell` and may be called upon to end early (`stop`)."""

    started = []
    _turn = threading.Condition()
    _waiting = []
    _busy = 0
    _closed = False

    def __init__(self):
        self.told = queue.Queue()
        self.thread = None
        self.stopped = False

    def work(self):
        """Does it."""
        raise NotImplementedError

    def stop(self):
        """Ends it early."""
        self.stopped = True

    def tell(self, result):
        """Hands over a result, which is not None."""
        self.told.put(result)

    def start(self, after=None):
        """Begins it when it has a place, if that has not been done; behind those that wait, or when the job `after` has ended."""
        with Job._turn:
            if self.thread or Job._closed:
                return
            self.thread = threading.Thread(target=self._run, args=(after,), daemon=True)
            Job.started.append(self)
            if not after:
                Job._waiting.append(self)
        self.thread.start()

    def results(self):
        """Yields what it tells as it comes. What went wrong in it goes wrong here."""
        self.start()
        while self.thread and (result := self.told.get()) is not None:
            if isinstance(result, Exception):
                raise result
            yield result

    def _run(self, after):
        if after:
            after.thread.join()
            with Job._turn:
                Job._waiting.append(self)
        with Job._turn:
            Job._turn.wait_for(lambda: self.stopped or (Job._waiting[0] is self and Job._busy < places()))
            Job._waiting.remove(self)
            Job._busy += 1
            Job._turn.notify_all()
        try:
            if not self.stopped:
                self.work()
        except Exception as error:  # pylint: disable=broad-exception-caught
            self.told.put(error)
        finally:
            self.told.put(None)
            with Job._turn:
                Job._busy -= 1
                Job._turn.notify_all()

    @classmethod
    def stop_all(cls):
        """Ends all jobs and waits for them; none begins any more."""
        with Job._turn:
            Job._closed = True
            jobs = list(Job.started)
            for job in jobs:
                job.stop()
            Job._turn.notify_all()
        for job in jobs:
            job.thread.join(20)


def places():
    """So many jobs run at a time."""
    return int(os.environ.get("JOBS") or os.cpu_count() or 1)
