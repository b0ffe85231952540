// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "ktap.h"
#include "tracefs.h"

bool have_trace(void)
{
	if (access(TRACING "trace", R_OK))
		mount("tracefs", TRACING, "tracefs", 0, NULL);
	return access(TRACING "trace", W_OK) == 0;
}

bool put(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_TRUNC);
	bool done = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

	if (fd >= 0)
		close(fd);
	return done;
}

uint32_t events_with(const char *event, const char *text)
{
	char line[512];
	uint32_t lines = 0;
	FILE *file = fopen(TRACING "trace", "r");

	CHECK(file);
	while (fgets(line, sizeof(line), file))
		lines += strstr(line, event) && strstr(line, text);
	fclose(file);
	return lines;
}
