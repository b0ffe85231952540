// SPDX-License-Identifier: GPL-2.0
#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "abi.h"

int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	CHECK(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

u64 stats_counter(int fd, const char *wanted)
{
	struct kvm_stats_header header;

	CHECK_EQ(pread(fd, &header, sizeof(header), 0), sizeof(header));
	for (u32 i = 0; i < header.num_desc; i++) {
		char buffer[sizeof(struct kvm_stats_desc) + 256];
		struct kvm_stats_desc *desc = (void *)buffer;
		size_t size = sizeof(*desc) + header.name_size;
		u64 value;

		CHECK(size <= sizeof(buffer));
		CHECK_EQ(pread(fd, buffer, size, header.desc_offset + i * size), size);
		if (strcmp(desc->name, wanted))
			continue;
		CHECK_EQ(pread(fd, &value, sizeof(value), header.data_offset + desc->offset), sizeof(value));
		return value;
	}
	FAIL("there is no counter '%s'", wanted);
	return 0;
}

bool load_module(const char *parameters)
{
	char command[256];

	if (ktap_on_kvm() || access("/loft.ko", R_OK))
		SKIP("needs loft's module in /loft.ko");
	/* The last of a case before may be freed a little later. */
	snprintf(command, sizeof(command),
		 "n=0; while [ -e /sys/module/loft ] && ! rmmod loft 2>/dev/null; do "
		 "n=$((n + 1)); [ $n -lt 100 ] || exit 1; sleep 0.1; done; insmod /loft.ko %s", parameters);
	return system(command) == 0;
}

int stats_of(int of)
{
	if (cap(KVM_CAP_BINARY_STATS_FD) <= 0)
		SKIP("no counters");
	return CHECK_OK(ioctl(of, KVM_GET_STATS_FD, 0));
}
