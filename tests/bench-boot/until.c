// SPDX-License-Identifier: GPL-2.0
/*
 * until ROOT MARKER MEMORY CMD...: runs CMD in the root directory ROOT until MARKER is in its output. Prints how many
 * instructions all CPUs of the emulated server have executed from then on when CMD was to be executed, and CMD's resident
 * memory in KiB without that of its guest, which has MEMORY KiB. Then it ends CMD.
 *
 * Instructions are counted as in tests/apps/meter.c. Time in which all CPUs are idle is none.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what)
{
	fprintf(stderr, "until: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t count(int fd)
{
	uint64_t value;

	if (read(fd, &value, sizeof(value)) != sizeof(value))
		die("the instructions cannot be counted");
	return value;
}

/* The resident memory of all mappings that are too small to be the guest's. */
static unsigned long resident(pid_t pid, unsigned long memory)
{
	char name[64], line[512];
	unsigned long size = 0, kib, sum = 0;
	FILE *smaps;

	snprintf(name, sizeof(name), "/proc/%d/smaps", pid);
	smaps = fopen(name, "r");
	if (!smaps)
		die(name);
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "Size: %lu", &kib) == 1)
			size = kib;
		else if (sscanf(line, "Rss: %lu", &kib) == 1 && size < memory)
			sum += kib;
	}
	fclose(smaps);
	return sum;
}

int main(int argc, char **argv)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_INSTRUCTIONS,
	};
	char said[1 << 16];
	size_t length = 0;
	cpu_set_t first, all;
	uint64_t before, after;
	int counter, out[2];
	pid_t pid;

	if (argc < 5) {
		fprintf(stderr, "usage: until ROOT MARKER MEMORY CMD...\n");
		return 2;
	}
	counter = syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	if (counter < 0)
		die("the server's CPU does not count instructions");
	CPU_ZERO(&first);
	CPU_SET(0, &first);
	if (sched_getaffinity(0, sizeof(all), &all) || sched_setaffinity(0, sizeof(first), &first))
		die("CPU 0 cannot be used");
	if (pipe2(out, O_CLOEXEC))
		die("pipe");

	before = count(counter);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		int null = open("/dev/null", O_RDONLY);

		if (sched_setaffinity(0, sizeof(all), &all) || dup2(null, 0) < 0 || dup2(out[1], 1) < 0 || dup2(out[1], 2) < 0 || chroot(argv[1]) ||
		    chdir("/"))
			die(argv[1]);
		execv(argv[4], argv + 4);
		die(argv[4]);
	}
	close(out[1]);
	do {
		ssize_t n = read(out[0], said + length, sizeof(said) - 1 - length);

		if (n <= 0) {
			said[length] = 0;
			fprintf(stderr, "until: %s has ended without '%s'; it said: %s\n", argv[4], argv[2], said);
			return 1;
		}
		length += n;
		said[length] = 0;
	} while (!strstr(said, argv[2]));
	after = count(counter);

	printf("%llu %lu\n", (unsigned long long)(after - before), resident(pid, strtoul(argv[3], NULL, 10)));
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
	return 0;
}
