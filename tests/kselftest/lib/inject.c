// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <unistd.h>

#include "inject.h"

#define DEBUGFS "/sys/kernel/debug/"

unsigned int inject_count;
static __thread int fail_nth = -1;

static void put(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		FAIL("%s: %s", path, strerrorname_np(errno));
	close(fd);
}

void inject_setup(void)
{
	if (access("/proc/thread-self/fail-nth", W_OK) || access(DEBUGFS "failslab", X_OK))
		SKIP("this kernel cannot make allocations fail");
	/* Allocations that may sleep fail too, and single pages; nothing is printed for it. */
	put(DEBUGFS "failslab/ignore-gfp-wait", "N");
	put(DEBUGFS "failslab/verbose", "0");
	put(DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N");
	put(DEBUGFS "fail_page_alloc/ignore-gfp-highmem", "N");
	put(DEBUGFS "fail_page_alloc/min-order", "0");
	put(DEBUGFS "fail_page_alloc/verbose", "0");
	put(DEBUGFS "fail_usercopy/verbose", "0");
}

void inject_arm(int nth)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%d", nth);

	if (fail_nth < 0) {
		fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
		CHECK(fail_nth >= 0);
	}
	/* The last thing before the call: nothing else of this thread's may be hit. */
	if (pwrite(fail_nth, text, length, 0) != length)
		FAIL("fail-nth: %s", strerrorname_np(errno));
}

bool inject_disarm(void)
{
	char left[16] = "";

	/* What is still armed may hit this. Then it has not hit the call. */
	if (pread(fail_nth, left, sizeof(left) - 1, 0) <= 0) {
		CHECK(pwrite(fail_nth, "0", 1, 0) == 1);
		return false;
	}
	if (atoi(left) == 0)
		return true;
	while (pwrite(fail_nth, "0", 1, 0) != 1)
		;
	return false;
}

void inject_check(const char *file, int line, const char *what, int nth, int error)
{
	if (error != ENOMEM && error != EFAULT)
		ktap_fail(file, line, "%s: %s, when allocation or copy %d in it fails", what, strerrorname_np(error), nth);
}
