// SPDX-License-Identifier: GPL-2.0
/* The runner behind ktap.h: cases in child processes, KTAP on standard output. */
#include <stdarg.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ktap.h"

#define KVM_MISC_MINOR 232
#define STATUS_SKIP 4

extern const struct ktap_case __start_ktap_cases[], __stop_ktap_cases[];

const char *ktap_device = "/dev/loft";
static volatile int failures;

bool ktap_on_kvm(void)
{
	struct stat st;

	return stat(ktap_device, &st) == 0 && S_ISCHR(st.st_mode) && minor(st.st_rdev) == KVM_MISC_MINOR;
}

static void vnote(const char *prefix, const char *fmt, va_list ap)
{
	char line[512];
	int n = snprintf(line, sizeof(line), "# %s", prefix);

	n += vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	/* One write per line: several threads and processes share the output. */
	if (write(STDOUT_FILENO, line, n) < 0)
		_exit(1);
}

void ktap_note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vnote("", fmt, ap);
	va_end(ap);
}

static void located(const char *file, int line, const char *fmt, va_list ap)
{
	const char *base = strrchr(file, '/');
	char prefix[128];

	snprintf(prefix, sizeof(prefix), "%s:%d: ", base ? base + 1 : file, line);
	vnote(prefix, fmt, ap);
}

void ktap_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vnote("skipped: ", fmt, ap);
	va_end(ap);
	_exit(failures ? 1 : STATUS_SKIP);
}

void ktap_fail(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	located(file, line, fmt, ap);
	va_end(ap);
	_exit(1);
}

void ktap_expect(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	located(file, line, fmt, ap);
	va_end(ap);
	failures++;
}

static int by_line(const void *a, const void *b)
{
	const struct ktap_case *const *x = a, *const *y = b;

	return (*x)->line - (*y)->line;
}

/* LOFT_SLOW=N: the machine is N times slower than those that the time limits are made for. */
static int slowness(void)
{
	const char *slow = getenv("LOFT_SLOW");

	return slow && atoi(slow) > 0 ? atoi(slow) : 1;
}

int ktap_times(int n)
{
	if (!getenv("LOFT_LONG"))
		n /= slowness();
	return n ? n : 1;
}

/* Runs one case in a child. Returns 0, 1 or STATUS_SKIP. */
static int run_case(const struct ktap_case *c)
{
	pid_t child = fork();
	int status;

	if (child < 0) {
		perror("fork");
		return 1;
	}
	if (child == 0) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(c->seconds * slowness());
		c->fn();
		_exit(failures ? 1 : 0);
	}
	setpgid(child, child);
	if (waitpid(child, &status, 0) != child)
		return 1;
	kill(-child, SIGKILL); /* what the case itself may have forked */
	if (WIFSIGNALED(status)) {
		if (WTERMSIG(status) == SIGALRM)
			ktap_note("%s: no end after %d s", c->name, c->seconds * slowness());
		else
			ktap_note("%s: killed by SIG%s", c->name, sigabbrev_np(WTERMSIG(status)));
		return 1;
	}
	return WEXITSTATUS(status);
}

static bool wanted(const struct ktap_case *c, char **names, int n)
{
	for (int i = 0; i < n; i++)
		if (strcmp(names[i], c->name) == 0)
			return true;
	return n == 0;
}

int main(int argc, char **argv)
{
	size_t n = __stop_ktap_cases - __start_ktap_cases, count = 0, number = 0, failed = 0, skipped = 0;
	const struct ktap_case *cases[n];

	if (getenv("LOFT_DEVICE"))
		ktap_device = getenv("LOFT_DEVICE");
	if (argc > 1)
		ktap_device = argv[1];
	for (size_t i = 0; i < n; i++)
		if (wanted(&__start_ktap_cases[i], argv + 2, argc > 2 ? argc - 2 : 0))
			cases[count++] = &__start_ktap_cases[i];
	qsort(cases, count, sizeof(cases[0]), by_line);

	printf("TAP version 13\n1..%zu\n", count);
	fflush(stdout);
	for (size_t i = 0; i < count; i++) {
		int status = run_case(cases[i]);

		printf("%s %zu %s%s\n", status == 0 || status == STATUS_SKIP ? "ok" : "not ok", ++number, cases[i]->name,
		       status == STATUS_SKIP ? " # SKIP" : "");
		fflush(stdout);
		skipped += status == STATUS_SKIP;
		failed += status != 0 && status != STATUS_SKIP;
	}
	printf("# Totals: pass:%zu fail:%zu xfail:0 xpass:0 skip:%zu error:0\n", count - failed - skipped, failed, skipped);
	if (failed || count == 0)
		return 1;
	return skipped == count ? STATUS_SKIP : 0;
}
