// SPDX-License-Identifier: GPL-2.0
/*
 * Reads the emulated server's instruction counter: for each line on standard input prints how many instructions all CPUs
 * together have executed, and the virtual time in ns, which also passes where all CPUs are idle.
 *
 * Under -icount QEMU's CPUs have one count of instructions, and each CPU's PMU event INST_RETIRED is that count, so the
 * event of one CPU tells of all. This runs on that CPU: asking another one takes it until that one's turn.
 *
 * A line is `begin` or `end`. What lies between is also marked by two instructions that do nothing, for explain.c.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_INSTRUCTIONS,
	};
	int fd = syscall(SYS_perf_event_open, &attr, -1, 0, -1, 0);
	cpu_set_t first;
	char line[16];

	if (fd < 0) {
		fprintf(stderr, "meter: the server's CPU does not count instructions: %s\n", strerror(errno));
		return 1;
	}
	CPU_ZERO(&first);
	CPU_SET(0, &first);
	if (sched_setaffinity(0, sizeof(first), &first)) {
		fprintf(stderr, "meter: CPU 0 cannot be used: %s\n", strerror(errno));
		return 1;
	}
	while (fgets(line, sizeof(line), stdin)) {
		struct timespec now;
		uint64_t count;

		if (!strcmp(line, "end\n"))
			__asm__ volatile("movz xzr, #0x10f1" ::: "memory");
		if (read(fd, &count, sizeof(count)) != sizeof(count)) {
			fprintf(stderr, "meter: the counter cannot be read: %s\n", strerror(errno));
			return 1;
		}
		if (!strcmp(line, "begin\n"))
			__asm__ volatile("movz xzr, #0x10f0" ::: "memory");
		clock_gettime(CLOCK_MONOTONIC, &now);
		printf("%llu %llu\n", (unsigned long long)count, now.tv_sec * 1000000000ULL + now.tv_nsec);
		fflush(stdout);
	}
	return 0;
}
