// SPDX-License-Identifier: GPL-2.0
/* Basic operations of the kernel, as lmbench has them, a fixed number of each: lat OPERATION COUNT. */
#include <err.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MEMORY (4 << 20) /* what a process that forks has touched */
#define BLOCK (64 << 10)

static const char *self;

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "CPU %d", cpu);
}

static void wait_for(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		errx(1, "a process failed");
}

static void do_fork(long count)
{
	char *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		err(1, "mmap");
	memset(memory, 1, MEMORY);
	while (count--) {
		pid_t pid = fork();

		if (!pid) {
			memory[0] = 2;
			_exit(0);
		}
		wait_for(pid);
	}
}

static void do_exec(long count)
{
	while (count--) {
		pid_t pid = fork();

		if (!pid) {
			execl(self, self, "nothing", "1", NULL);
			_exit(1);
		}
		wait_for(pid);
	}
}

static void do_nothing(long count)
{
	(void)count;
}

/* A byte goes to another process and back, so often. */
static void ping_pong(long count, int other_cpu)
{
	int there[2], back[2];
	char byte = 0;
	pid_t pid;

	if (pipe(there) || pipe(back))
		err(1, "pipe");
	run_on(0);
	pid = fork();
	if (!pid) {
		run_on(other_cpu);
		while (count--)
			if (read(there[0], &byte, 1) != 1 || write(back[1], &byte, 1) != 1)
				_exit(1);
		_exit(0);
	}
	while (count--)
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			err(1, "pipe");
	wait_for(pid);
}

static void do_switch(long count)
{
	ping_pong(count, 0);
}

static void do_wake(long count)
{
	ping_pong(count, 1);
}

static void do_pipe(long count)
{
	static char block[BLOCK];
	int ends[2];
	pid_t pid;

	if (pipe(ends))
		err(1, "pipe");
	pid = fork();
	if (!pid) {
		close(ends[0]);
		while (count--)
			if (write(ends[1], block, BLOCK) != BLOCK)
				_exit(1);
		_exit(0);
	}
	close(ends[1]);
	for (ssize_t n = 1; n > 0;) {
		n = read(ends[0], block, BLOCK);
		if (n < 0)
			err(1, "read");
	}
	wait_for(pid);
}

static const struct {
	const char *name;
	void (*run)(long count);
} operations[] = {
	{ "fork", do_fork }, { "exec", do_exec }, { "nothing", do_nothing }, { "switch", do_switch }, { "wake", do_wake }, { "pipe", do_pipe },
};

int main(int argc, char **argv)
{
	self = argv[0];
	for (size_t i = 0; argc == 3 && i < sizeof(operations) / sizeof(operations[0]); i++)
		if (!strcmp(argv[1], operations[i].name)) {
			operations[i].run(atol(argv[2]));
			return 0;
		}
	errx(2, "usage: lat fork|exec|switch|wake|pipe COUNT");
}
