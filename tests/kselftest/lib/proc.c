// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <unistd.h>

#include "vm.h"

/* What a thread is doing: R, S, D, T, Z; 0 if there is none. */
static char state_of(pid_t pid, pid_t tid)
{
	char path[64], text[256] = {}, *end;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	close(fd);
	end = strrchr(text, ')'); /* the name may hold anything */
	return end ? end[2] : 0;
}

bool falls_asleep(pid_t pid, pid_t tid)
{
	u64 end = now_us() + 8000000;

	for (int seen = 0; seen < 5; sleep_us(1000)) {
		char state = state_of(pid, tid);

		if (state == 0 || state == 'Z' || now_us() > end)
			return false;
		seen = state == 'S' || state == 'D' ? seen + 1 : 0;
	}
	return true;
}

void wait_asleep(pid_t pid, pid_t tid)
{
	if (!falls_asleep(pid, tid))
		FAIL("the thread does not wait, it is in state %c", state_of(pid, tid) ?: '-');
}
