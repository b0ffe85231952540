// SPDX-License-Identifier: GPL-2.0
/* The contract of the ioctls on the device itself. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "abi.h"

TEST(open_modes)
{
	int fd = CHECK_OK(open(ktap_device, O_RDONLY));

	EXPECT_EQ(ioctl(fd, KVM_GET_API_VERSION, 0), 12);
	EXPECT_ERRNO(read(fd, &(char){ 0 }, 1), EINVAL);
	close(fd);
	fd = CHECK_OK(open(ktap_device, O_WRONLY));
	EXPECT_ERRNO(write(fd, "", 1), EINVAL);
	EXPECT(mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED);
	close(fd);
}

TEST(get_api_version)
{
	EXPECT_EQ(ioctl(sys_fd(), KVM_GET_API_VERSION, 0), KVM_API_VERSION);
	EXPECT_ERRNO(ioctl(sys_fd(), KVM_GET_API_VERSION, 1), EINVAL);
}

TEST(get_vcpu_mmap_size)
{
	long size = ioctl(sys_fd(), KVM_GET_VCPU_MMAP_SIZE, 0);

	EXPECT(size >= (long)sizeof(struct kvm_run));
	EXPECT_EQ(size % 4096, 0);
	EXPECT_ERRNO(ioctl(sys_fd(), KVM_GET_VCPU_MMAP_SIZE, 1), EINVAL);
}

TEST(unknown_ioctls)
{
	EXPECT_UNKNOWN_IOCTL(sys_fd(), UNKNOWN_IOCTL);
	EXPECT_UNKNOWN_IOCTL(sys_fd(), _IO('x', 1));
	EXPECT_UNKNOWN_IOCTL(sys_fd(), KVM_RUN); /* belongs to another kind of file */
	EXPECT_UNKNOWN_IOCTL(sys_fd(), KVM_CREATE_VCPU);
}

TEST(extensions_that_must_be_there)
{
	static const struct {
		const char *name;
		int cap;
	} caps[] = {
#define C(x) { #x, KVM_CAP_##x }
		C(USER_MEMORY), C(DESTROY_MEMORY_REGION_WORKS), C(JOIN_MEMORY_REGIONS_WORKS), C(SYNC_MMU), C(ONE_REG), C(ARM_PSCI_0_2),
		C(READONLY_MEM), C(MP_STATE), C(IMMEDIATE_EXIT), C(IOEVENTFD), C(IOEVENTFD_ANY_LENGTH), C(IRQFD), C(IRQFD_RESAMPLE),
		C(IRQCHIP), C(DEVICE_CTRL), C(CHECK_EXTENSION_VM), C(VCPU_ATTRIBUTES), C(ARM_IRQ_LINE_LAYOUT_2), C(USER_MEMORY2),
		C(COUNTER_OFFSET), C(ARM_NISV_TO_USER), C(IRQ_ROUTING), C(INTERNAL_ERROR_DATA), C(ARM_SEA_TO_USER),
	};

	for (size_t i = 0; i < ARRAY_SIZE(caps); i++)
		if (cap(caps[i].cap) <= 0)
			ktap_expect(__FILE__, __LINE__, "KVM_CAP_%s is %d", caps[i].name, cap(caps[i].cap));
}

TEST(extensions_with_numbers)
{
	int ipa = cap(KVM_CAP_ARM_VM_IPA_SIZE);

	EXPECT(cap(KVM_CAP_NR_MEMSLOTS) >= 32);
	EXPECT(cap(KVM_CAP_MAX_VCPUS) >= 512);
	EXPECT(cap(KVM_CAP_MAX_VCPU_ID) >= cap(KVM_CAP_MAX_VCPUS));
	EXPECT_EQ(cap(KVM_CAP_NR_VCPUS), cpu_count());
	EXPECT(ipa >= 32 && ipa <= 52);
	EXPECT(cap(KVM_CAP_IRQ_ROUTING) >= 1024);
	/* Both halves of pointer authentication, or none. */
	EXPECT_EQ(cap(KVM_CAP_ARM_PTRAUTH_ADDRESS), cap(KVM_CAP_ARM_PTRAUTH_GENERIC));
}

TEST(extensions_that_must_not_be_there)
{
	EXPECT_EQ(cap(KVM_CAP_HLT), 0); /* x86 */
	EXPECT_EQ(cap(KVM_CAP_ENABLE_CAP), 0); /* on a vCPU, which arm64 has nothing to enable on */
	EXPECT_EQ(cap(KVM_CAP_S390_PSW), 0);
	EXPECT_EQ(cap(100000), 0);
	EXPECT_EQ(ioctl(sys_fd(), KVM_CHECK_EXTENSION, -1L), 0);
	EXPECT_EQ(ioctl(sys_fd(), KVM_CHECK_EXTENSION, 1L << 32 | KVM_CAP_USER_MEMORY), 0);
	/* A feature that is announced can be asked for, and one that is not cannot: see ioctl_vcpu. */
}

/* Of some only a VM can tell. */
TEST(extensions_of_a_vm_alone)
{
	int vm = CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));

	EXPECT_ERRNO(ioctl(sys_fd(), KVM_CHECK_EXTENSION, KVM_CAP_MSI_DEVID), EINVAL);
	EXPECT_ERRNO(ioctl(sys_fd(), KVM_CHECK_EXTENSION, KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED), EINVAL);
	EXPECT_EQ(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_MSI_DEVID), 0);
	EXPECT(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED) >= 0);
}

/* What the VM says is what the device says, for everything that does not depend on the VM. */
TEST(extensions_of_a_vm)
{
	int vm = CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));

	for (int c = 0; c < 300; c++) {
		int of_system = ioctl(sys_fd(), KVM_CHECK_EXTENSION, c);

		if (of_system < 0)
			continue; /* only a VM can tell */
		if (ioctl(vm, KVM_CHECK_EXTENSION, c) != of_system)
			ktap_expect(__FILE__, __LINE__, "KVM_CAP %d: %d on the VM, %d on the device", c, ioctl(vm, KVM_CHECK_EXTENSION, c), of_system);
	}
	EXPECT_EQ(ioctl(vm, KVM_CHECK_EXTENSION, 100000), 0);
}

TEST(create_vm_ipa_size)
{
	int limit = cap(KVM_CAP_ARM_VM_IPA_SIZE), fds = open_fds();

	for (int bits = 0; bits < 64; bits++) {
		int fd = ioctl(sys_fd(), KVM_CREATE_VM, KVM_VM_TYPE_ARM_IPA_SIZE(bits));
		bool good = bits == 0 ? limit >= 40 : bits >= 32 && bits <= limit;

		if (good != (fd >= 0) || (fd < 0 && errno != EINVAL))
			ktap_expect(__FILE__, __LINE__, "IPA size %d, the limit is %d: %d errno %d", bits, limit, fd, errno);
		if (fd >= 0) {
			EXPECT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
			close(fd);
		}
	}
	EXPECT_EQ(open_fds(), fds);
}

TEST(create_vm_bad_type)
{
	int system = sys_fd(), fds = open_fds();

	EXPECT_ERRNO(ioctl(system, KVM_CREATE_VM, 0x100), EINVAL);
	EXPECT_ERRNO(ioctl(system, KVM_CREATE_VM, 0x100 | 40), EINVAL);
	EXPECT_ERRNO(ioctl(system, KVM_CREATE_VM, 1UL << 32), EINVAL);
	EXPECT_ERRNO(ioctl(system, KVM_CREATE_VM, 1UL << 31), EINVAL); /* a protected VM */
	EXPECT_ERRNO(ioctl(system, KVM_CREATE_VM, -1L), EINVAL);
	EXPECT_EQ(open_fds(), fds);
}

TEST(create_vm_without_a_free_fd)
{
	int last = -1, fd;

	while ((fd = dup(sys_fd())) >= 0)
		last = fd;
	EXPECT_EQ(errno, EMFILE);
	EXPECT_ERRNO(ioctl(sys_fd(), KVM_CREATE_VM, 0), EMFILE);
	close(last);
	fd = EXPECT_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));
	EXPECT_EQ(fd, last);
}

/* A VM belongs to the process that made it. */
TEST(foreign_process)
{
	int vm = CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0)), vcpu = CHECK_OK(ioctl(vm, KVM_CREATE_VCPU, 0)), status;
	pid_t child = CHECK_OK(fork());

	if (child == 0) {
		struct kvm_vcpu_init init;
		bool bad = ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY) != -1 || errno != EIO;

		bad |= ioctl(vm, KVM_CREATE_VCPU, 1) != -1 || errno != EIO;
		bad |= ioctl(vcpu, KVM_ARM_VCPU_INIT, &init) != -1 || errno != EIO;
		bad |= ioctl(vcpu, KVM_RUN, 0) != -1 || errno != EIO;
		/* The device is everybody's. */
		bad |= ioctl(sys_fd(), KVM_CREATE_VM, 0) < 0;
		_exit(bad);
	}
	CHECK_EQ(waitpid(child, &status, 0), child);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), 1);
}

/* Closing in any order frees everything: the vCPU keeps its VM alive. */
TEST(close_order)
{
	for (int i = 0; i < 20; i++) {
		int vm = CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0)), vcpu = CHECK_OK(ioctl(vm, KVM_CREATE_VCPU, 0));
		struct kvm_vcpu_init init;

		if (i & 1) {
			CHECK_OK(ioctl(vm, KVM_ARM_PREFERRED_TARGET, &init));
			close(vm);
			EXPECT_OK(ioctl(vcpu, KVM_ARM_VCPU_INIT, &init));
			close(vcpu);
		} else {
			close(vcpu);
			EXPECT_ERRNO(ioctl(vm, KVM_CREATE_VCPU, 0), EEXIST); /* its number stays taken */
			EXPECT_OK(ioctl(vm, KVM_CREATE_VCPU, 1));
			close(vm);
		}
	}
}
