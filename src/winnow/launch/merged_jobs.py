"""Jobs of a sweep for which another's run stands: that run has to be done, and one that is not stands for nothing."""

from dataclasses import dataclass

from winnow.errors import CONFIG, DONE
from winnow.launch.sweep_results import SweepResults


@dataclass
class MergedJobs:
    """Jobs that are not run while another's run may stand for them; `into` has the number of that job by theirs.

    Once that run is done, it stands for them. If it was refused, which may be for its own words, the first of them is
    started itself, and may stand for the rest. If it ended in another way, they are not started: what provably trains
    the same would end like it.
    """

    into: dict[int, int]
    results: SweepResults

    def settle(self, ended: int) -> list[int]:
        """Settle the jobs that waited for the job `ended`, and give those of them that are to be started."""
        waiting = [job for job, into in self.into.items() if into == ended]
        code = self.results.rows[ended].exit_code
        for job in waiting:
            del self.into[job]
            if code == DONE:
                self.results.merge(job, ended)
            elif code != CONFIG:
                self.results.leave(job, ended)
        if code != CONFIG or not waiting:
            return []
        self.into |= dict.fromkeys(waiting[1:], waiting[0])
        return waiting[:1]
