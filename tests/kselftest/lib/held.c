// SPDX-License-Identifier: GPL-2.0
#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "held.h"
#include "vm.h"

#define BOOKS "/sys/kernel/debug/slab"

/* Each CPU keeps some of what is given back, for the next who asks. */
#define MEMORY_SLACK 0x80000
/* Files are given back after a grace period, so those that the counting itself has used are not all gone. */
#define FILES_SLACK 8

struct sums {
	struct held *held;
	bool print;
	const char *cache;
};

/* Calls `each` for every record of a cache's book: a line with an age, and the stack that follows. */
static void records(const char *path, void (*each)(const char *record, struct sums *sums), struct sums *sums)
{
	FILE *file = fopen(path, "re");
	char *line = NULL, record[16384];
	size_t room = 0, used = 0;

	if (!file)
		return;
	while (getline(&line, &room, file) > 0) {
		size_t length = strlen(line);

		if (strstr(line, " age=") && used) {
			each(record, sums);
			used = 0;
		}
		if (used + length < sizeof(record)) {
			memcpy(record + used, line, length + 1);
			used += length;
		}
	}
	if (used)
		each(record, sums);
	free(line);
	fclose(file);
}

/* What a record's first line names has asked for the memory: not what the kernel needs on the way to it, and keeps. */
static bool asked_by(const char *record, const char *function)
{
	const char *name = strstr(record, function), *end = strchr(record, '\n');

	return name && end && name < end;
}

static void object_record(const char *record, struct sums *sums)
{
	s64 count = atoll(record);
	bool event = asked_by(record, "do_eventfd");

	if (strcmp(sums->cache, "mm_struct") == 0)
		sums->held->spaces += count;
	else if (strcmp(sums->cache, "filp") == 0)
		sums->held->files += count;
	else if (strstr(record, "mmu_notifier_register"))
		sums->held->notifiers += count;
	else if (event)
		sums->held->events += count;
	else if (asked_by(record, "rust_helper_") && strstr(record, "[loft]"))
		sums->held->objects += count;
	else
		return;
	if (sums->print && (event || strstr(record, "[loft]")))
		ktap_note("%s: %s", sums->cache, record);
}

/* The controller of this case alone: what others do does not count. */
static s64 charged(void)
{
	static char path[64];
	char line[128];
	s64 bytes = -1;
	FILE *file;

	if (!path[0]) {
		const char *root = "/tmp/cgroup";

		mkdir(root, 0700);
		mount("none", root, "cgroup2", 0, NULL);
		snprintf(path, sizeof(path), "%s/cgroup.subtree_control", root);
		file = fopen(path, "we");
		if (!file || fputs("+memory", file) < 0 || fclose(file))
			return -1;
		snprintf(path, sizeof(path), "%s/%d", root, getpid());
		mkdir(path, 0700);
		snprintf(line, sizeof(line), "%s/cgroup.procs", path);
		file = fopen(line, "we");
		if (!file || fputs("0", file) < 0 || fclose(file))
			return -1;
		strcat(path, "/memory.stat");
	}
	file = fopen(path, "re");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, "kernel ", 7) == 0)
			bytes = atoll(line + 7);
	fclose(file);
	return bytes;
}

static struct held count(bool print)
{
	struct held held = { .memory = -1 };
	struct sums sums = { &held, print, NULL };
	struct dirent *entry;
	DIR *dir = opendir(BOOKS);

	held.memory = charged();
	if (!dir)
		return held;
	while ((entry = readdir(dir))) {
		char path[512];
		int fd;

		if (strncmp(entry->d_name, "kmalloc", 7) && strcmp(entry->d_name, "mm_struct") && strcmp(entry->d_name, "filp"))
			continue;
		/* Out of quarantine. */
		snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink", entry->d_name);
		fd = open(path, O_WRONLY);
		if (fd >= 0) {
			if (write(fd, "1", 1) < 0)
				ktap_note("%s: %s", path, strerrorname_np(errno));
			close(fd);
		}
		sums.cache = entry->d_name;
		snprintf(path, sizeof(path), BOOKS "/%s/alloc_traces", entry->d_name);
		records(path, object_record, &sums);
		held.known = true;
	}
	closedir(dir);
	held.memory = charged();
	return held;
}

struct held held_now(void)
{
	return count(false);
}

static bool within(struct held now, struct held before)
{
	return now.memory <= before.memory + MEMORY_SLACK && now.objects <= before.objects && now.spaces <= before.spaces &&
	       now.files <= before.files + FILES_SLACK && now.events <= before.events && now.notifiers <= before.notifiers;
}

void held_compare(struct held before)
{
	struct held now;

	if (!before.known)
		ktap_note("this kernel does not say who holds what: only that it works is tested, and the memory in use");
	for (int i = 0; i < 20; i++) {
		now = held_now();
		if (within(now, before)) {
			ktap_note("kernel memory: %ld KiB, before %ld KiB", (long)now.memory / 1024, (long)before.memory / 1024);
			return;
		}
		sleep_us(500000);
	}
	count(true);
	FAIL("kernel memory %ld, before %ld; objects %ld, before %ld; address spaces %ld, before %ld; files %ld, before %ld; "
	     "eventfds %ld, before %ld; notifiers %ld, before %ld",
	     (long)now.memory, (long)before.memory, (long)now.objects, (long)before.objects, (long)now.spaces, (long)before.spaces,
	     (long)now.files, (long)before.files, (long)now.events, (long)before.events, (long)now.notifiers, (long)before.notifiers);
}
