// SPDX-License-Identifier: GPL-2.0
/* KVM_GET_STATS_FD: the counters of a vCPU and of a VM count what has happened. The format has a test in KVM's selftests. */
#include <string.h>
#include <unistd.h>

#include "abi.h"
#include "psci.h"
#include "vm.h"

#define CALLS 100

static void guest_calls(u64 arg)
{
	for (int i = 0; i < CALLS; i++)
		guest_hvc(0x80000000, 0, 0, 0);
	GUEST_SYNC(1);
	for (int i = 0; i < CALLS; i++)
		guest_hvc(0x80000000, 0, 0, 0);
}

static u64 counter(int fd, const char *wanted)
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

static int stats(int of)
{
	if (cap(KVM_CAP_BINARY_STATS_FD) <= 0)
		SKIP("no counters");
	return CHECK_OK(ioctl(of, KVM_GET_STATS_FD, 0));
}

TEST(hypercalls_are_counted)
{
	struct vm *vm = vm_create(.main = guest_calls);
	struct vcpu *vcpu = &vm->vcpus[0];
	int fd = stats(vcpu->fd);
	u64 before, exits;

	EXPECT_EQ(counter(fd, "hvc_exit_stat"), 0);
	EXPECT_EQ(counter(fd, "exits"), 0);
	vcpu_sync(vcpu, 1);
	before = counter(fd, "hvc_exit_stat");
	exits = counter(fd, "exits");
	EXPECT(before >= CALLS);
	EXPECT(exits > 0);
	EXPECT(counter(fd, "mmio_exit_user") > 0);
	vcpu_done(vcpu);
	EXPECT(counter(fd, "hvc_exit_stat") >= before + CALLS);
	EXPECT(counter(fd, "exits") > exits);
}

TEST(end_and_beyond)
{
	struct vm *vm = vm_create(.main = guest_calls);
	int fd = stats(vm->vcpus[0].fd), of_vm = stats(vm->fd);
	char buffer[64];

	EXPECT_EQ(pread(fd, buffer, sizeof(buffer), 1 << 20), 0);
	EXPECT_ERRNO(pread(fd, BAD_POINTER, 64, 0), EFAULT);
	EXPECT_ERRNO(ioctl(fd, KVM_RUN, 0), ENOTTY);
	EXPECT(pread(of_vm, buffer, sizeof(buffer), 0) == sizeof(buffer));
	/* They keep what they need when all else is closed. */
	vm_destroy(vm);
	EXPECT(pread(fd, buffer, sizeof(buffer), 0) == sizeof(buffer));
	EXPECT(pread(of_vm, buffer, sizeof(buffer), 0) == sizeof(buffer));
	close(fd);
	close(of_vm);
}
