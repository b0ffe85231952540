// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "bare.h"

void bare_create(struct bare *b, const void *start, const void *end)
{
	struct kvm_userspace_memory_region region = { .guest_phys_addr = BARE_RAM, .memory_size = BARE_RAM_SIZE };
	struct kvm_vcpu_init init;
	u64 pc = BARE_RAM;
	struct kvm_one_reg reg = { .id = CORE_REG(regs.pc), .addr = (u64)&pc };

	b->system = open(ktap_device, O_RDWR | O_CLOEXEC);
	if (b->system < 0)
		FAIL("%s: %s", ktap_device, strerror(errno));
	b->vm = CHECK_OK(ioctl(b->system, KVM_CREATE_VM, 0));

	b->ram = mmap(NULL, BARE_RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(b->ram != MAP_FAILED);
	memcpy(b->ram, start, (const u8 *)end - (const u8 *)start);
	region.userspace_addr = (u64)b->ram;
	CHECK_OK(ioctl(b->vm, KVM_SET_USER_MEMORY_REGION, &region));

	CHECK_OK(ioctl(b->vm, KVM_ARM_PREFERRED_TARGET, &init));
	init.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
	b->vcpu = CHECK_OK(ioctl(b->vm, KVM_CREATE_VCPU, 0));
	CHECK_OK(ioctl(b->vcpu, KVM_ARM_VCPU_INIT, &init));
	b->run = mmap(NULL, CHECK_OK(ioctl(b->system, KVM_GET_VCPU_MMAP_SIZE, 0)), PROT_READ | PROT_WRITE, MAP_SHARED, b->vcpu, 0);
	CHECK(b->run != MAP_FAILED);
	CHECK_OK(ioctl(b->vcpu, KVM_SET_ONE_REG, &reg));
}
