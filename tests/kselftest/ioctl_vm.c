// SPDX-License-Identifier: GPL-2.0
/* The contract of the ioctls on a VM. What memory slots do to a running guest is in memslots.c. */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi.h"

static int empty_vm(void)
{
	return CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));
}

static int region(int vm, u32 slot, u32 flags, u64 gpa, u64 size, u64 hva)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot, .flags = flags, .guest_phys_addr = gpa, .memory_size = size, .userspace_addr = hva
	};

	return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r);
}

static int region2(int vm, u32 slot, u32 flags, u64 gpa, u64 size, u64 hva)
{
	struct kvm_userspace_memory_region2 r = {
		.slot = slot, .flags = flags, .guest_phys_addr = gpa, .memory_size = size, .userspace_addr = hva, .guest_memfd = -1
	};

	return ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &r);
}

TEST(unknown_ioctls)
{
	int vm = empty_vm();

	EXPECT_UNKNOWN_IOCTL(vm, UNKNOWN_IOCTL);
	EXPECT_UNKNOWN_IOCTL(vm, KVM_RUN);
	EXPECT_UNKNOWN_IOCTL(vm, KVM_GET_API_VERSION);
	EXPECT_UNKNOWN_IOCTL(vm, _IO('x', 1));
	EXPECT(mmap(NULL, 4096, PROT_READ, MAP_SHARED, vm, 0) == MAP_FAILED);
}

TEST(bad_pointers)
{
	static const unsigned long requests[] = {
		KVM_SET_USER_MEMORY_REGION, KVM_SET_USER_MEMORY_REGION2, KVM_ARM_PREFERRED_TARGET, KVM_CREATE_DEVICE, KVM_IRQ_LINE,
		KVM_IRQ_LINE_STATUS, KVM_IRQFD,
		KVM_IOEVENTFD, KVM_SET_GSI_ROUTING, KVM_ENABLE_CAP, KVM_ARM_SET_COUNTER_OFFSET,
	};
	int vm = empty_vm();

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		errno = 0;
		if (ioctl(vm, requests[i], BAD_POINTER) != -1 || errno != EFAULT)
			ktap_expect(__FILE__, __LINE__, "ioctl nr %#lx: errno %d, wanted EFAULT", _IOC_NR(requests[i]), errno);
	}
}

TEST(preferred_target)
{
	struct kvm_vcpu_init init;

	memset(&init, 0xff, sizeof(init));
	CHECK_OK(ioctl(empty_vm(), KVM_ARM_PREFERRED_TARGET, &init));
	EXPECT_EQ(init.target, KVM_ARM_TARGET_GENERIC_V8);
	for (size_t i = 0; i < ARRAY_SIZE(init.features); i++)
		EXPECT_EQ(init.features[i], 0);
}

TEST(memory_region_arguments)
{
	u64 hva = (u64)host_alloc(0x100000, 0x1000), top = 1UL << 40;
	int vm = empty_vm();

	/* Alignment of each of the three. */
	EXPECT_ERRNO(region(vm, 0, 0, 0x800, 0x1000, hva), EINVAL);
	EXPECT_ERRNO(region(vm, 0, 0, 0, 0x1800, hva), EINVAL);
	EXPECT_ERRNO(region(vm, 0, 0, 0, 0x1000, hva + 0x800), EINVAL);
	/* Not user memory, and what wraps around. */
	EXPECT_ERRNO(region(vm, 0, 0, 0, 0x1000, ~0xfffUL), EINVAL);
	EXPECT_ERRNO(region(vm, 0, 0, 0, 0x1000, 1UL << 63), EINVAL);
	EXPECT_ERRNO(region(vm, 0, 0, 0, 0x1000, hva | 0x5aUL << 56), EINVAL);
	EXPECT_ERRNO(region(vm, 0, 0, -0x1000UL, 0x2000, hva), EINVAL);
	EXPECT_ERRNO(region(vm, 0, 0, 0, 1UL << 63, hva), EINVAL);
	/* Slot numbers: 16 bits, and the address space above them, of which there is one. */
	EXPECT_ERRNO(region(vm, 1 << 16, 0, 0, 0x1000, hva), EINVAL);
	EXPECT_ERRNO(region(vm, cap(KVM_CAP_NR_MEMSLOTS), 0, 0, 0x1000, hva), EINVAL);
	EXPECT_OK(region(vm, cap(KVM_CAP_NR_MEMSLOTS) - 1, 0, 0x10000000, 0x1000, hva));
	/* Flags. */
	EXPECT_ERRNO(region(vm, 0, 1 << 2, 0, 0x1000, hva), EINVAL);
	EXPECT_ERRNO(region(vm, 0, 1 << 31, 0, 0x1000, hva), EINVAL);
	/* Above the VM's guest physical address size. */
	EXPECT_ERRNO(region(vm, 0, 0, top, 0x1000, hva), EFAULT);
	EXPECT_ERRNO(region(vm, 0, 0, top - 0x1000, 0x2000, hva), EFAULT);
	EXPECT_OK(region(vm, 0, 0, top - 0x1000, 0x1000, hva));
	EXPECT_OK(region(vm, 0, 0, 0, 0, 0)); /* and gone again */
	/* To delete what is not there. */
	EXPECT_ERRNO(region(vm, 0, 0, 0, 0, 0), EINVAL);
	EXPECT_ERRNO(region(vm, 7, 0, 0, 0, 0), EINVAL);
}

TEST(memory_region_ipa_size)
{
	u64 hva = (u64)host_alloc(0x10000, 0x1000);
	int vm = CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, KVM_VM_TYPE_ARM_IPA_SIZE(33)));

	EXPECT_OK(region(vm, 0, 0, (1UL << 33) - 0x1000, 0x1000, hva));
	EXPECT_ERRNO(region(vm, 1, 0, 1UL << 33, 0x1000, hva), EFAULT);
	EXPECT_ERRNO(region(vm, 1, 0, 1UL << 39, 0x1000, hva), EFAULT);
}

/* Memory need not be there yet when the slot is made, nor be the process's at all. */
TEST(memory_region_lazy)
{
	u8 *hole = host_alloc(0x10000, 0x1000);
	int vm = empty_vm();

	munmap(hole, 0x10000);
	EXPECT_OK(region(vm, 0, 0, 0, 0x10000, (u64)hole));
	EXPECT_OK(region(vm, 1, 0, 0x10000000, 0x1000, 0));
}

TEST(memory_region_overlap)
{
	u64 hva = (u64)host_alloc(0x100000, 0x1000);
	int vm = empty_vm();

	CHECK_OK(region(vm, 1, 0, 0x10000, 0x4000, hva));
	EXPECT_ERRNO(region(vm, 2, 0, 0x10000, 0x4000, hva), EEXIST);
	EXPECT_ERRNO(region(vm, 2, 0, 0x13000, 0x4000, hva), EEXIST);
	EXPECT_ERRNO(region(vm, 2, 0, 0xd000, 0x4000, hva), EEXIST);
	EXPECT_ERRNO(region(vm, 2, 0, 0x11000, 0x1000, hva), EEXIST);
	EXPECT_ERRNO(region(vm, 2, 0, 0x0, 0x100000, hva), EEXIST);
	/* Neighbours, and the same host memory twice. */
	EXPECT_OK(region(vm, 2, 0, 0x14000, 0x1000, hva));
	EXPECT_OK(region(vm, 3, 0, 0xf000, 0x1000, hva));
	/* Moving slot 2 onto slot 3, or half over itself. */
	EXPECT_ERRNO(region(vm, 2, 0, 0xf000, 0x1000, hva), EEXIST);
	EXPECT_OK(region(vm, 1, 0, 0x20000, 0x4000, hva));
	EXPECT_OK(region(vm, 1, 0, 0x21000, 0x4000, hva));
	EXPECT_OK(region(vm, 4, 0, 0x10000, 0x4000, hva)); /* where slot 1 was */
}

TEST(memory_region_change)
{
	u64 hva = (u64)host_alloc(0x100000, 0x1000);
	int vm = empty_vm();

	CHECK_OK(region(vm, 1, 0, 0x10000, 0x4000, hva));
	EXPECT_OK(region(vm, 1, 0, 0x10000, 0x4000, hva)); /* nothing changes */
	EXPECT_ERRNO(region(vm, 1, 0, 0x10000, 0x5000, hva), EINVAL);
	EXPECT_ERRNO(region(vm, 1, 0, 0x10000, 0x4000, hva + 0x1000), EINVAL);
	EXPECT_ERRNO(region(vm, 1, KVM_MEM_READONLY, 0x10000, 0x4000, hva), EINVAL);
	EXPECT_OK(region(vm, 1, 0, 0x30000, 0x4000, hva)); /* a move */
	EXPECT_OK(region(vm, 1, 0, 0, 0, 0));
	EXPECT_OK(region(vm, 1, KVM_MEM_READONLY, 0x10000, 0x5000, hva));
	EXPECT_ERRNO(region(vm, 1, 0, 0x10000, 0x5000, hva), EINVAL);
	EXPECT_OK(region(vm, 1, KVM_MEM_READONLY, 0x20000, 0x5000, hva));
}

TEST(memory_region2)
{
	u64 hva = (u64)host_alloc(0x100000, 0x1000);
	int vm = empty_vm();
	struct kvm_userspace_memory_region2 with_memfd = {
		.slot = 5, .flags = KVM_MEM_GUEST_MEMFD, .guest_phys_addr = 0x100000, .memory_size = 0x1000, .userspace_addr = hva, .guest_memfd = 9999
	};

	EXPECT_OK(region2(vm, 1, 0, 0x10000, 0x4000, hva));
	EXPECT_OK(region(vm, 1, 0, 0x10000, 0x4000, hva)); /* one and the same slot */
	EXPECT_ERRNO(region2(vm, 2, 0, 0x10000, 0x4000, hva), EEXIST);
	EXPECT_ERRNO(region2(vm, 2, 1 << 3, 0x20000, 0x4000, hva), EINVAL);
	EXPECT_OK(region2(vm, 2, KVM_MEM_READONLY, 0x20000, 0x4000, hva));
	EXPECT_OK(region2(vm, 2, 0, 0, 0, 0));
	/* The flag of the second form is unknown to the first; with a file that is none it fails in both worlds. */
	EXPECT_ERRNO(region(vm, 5, KVM_MEM_GUEST_MEMFD, 0x100000, 0x1000, hva), EINVAL);
	EXPECT(ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &with_memfd) == -1 && (errno == EBADF || errno == EINVAL));
}

TEST(memory_region_many)
{
	u64 hva = (u64)host_alloc(0x1000, 0x1000);
	int vm = empty_vm(), n = cap(KVM_CAP_NR_MEMSLOTS);

	if (n > 1024)
		n = 1024;
	for (int i = 0; i < n; i++)
		CHECK_OK(region(vm, i, 0, (u64)(i * 7919 % n) * 0x2000, 0x1000, hva));
	for (int i = 0; i < n; i += 2)
		CHECK_OK(region(vm, i, 0, 0, 0, 0));
	for (int i = 0; i < n; i += 2)
		CHECK_OK(region(vm, i, 0, (u64)(i * 7919 % n) * 0x2000 + 0x1000, 0x1000, hva));
}

TEST(create_vcpu_ids)
{
	int vm = empty_vm(), max = cap(KVM_CAP_MAX_VCPU_ID), fds = open_fds();

	EXPECT_ERRNO(ioctl(vm, KVM_CREATE_VCPU, max), EINVAL);
	EXPECT_ERRNO(ioctl(vm, KVM_CREATE_VCPU, 1UL << 32), EINVAL);
	EXPECT_ERRNO(ioctl(vm, KVM_CREATE_VCPU, -1L), EINVAL);
	EXPECT_EQ(open_fds(), fds);
	EXPECT_OK(ioctl(vm, KVM_CREATE_VCPU, max - 1));
	EXPECT_OK(ioctl(vm, KVM_CREATE_VCPU, 0));
	EXPECT_ERRNO(ioctl(vm, KVM_CREATE_VCPU, 0), EEXIST);
	EXPECT_ERRNO(ioctl(vm, KVM_CREATE_VCPU, max - 1), EEXIST);
	EXPECT_EQ(open_fds(), fds + 2);
}

TEST(create_vcpu_many)
{
	int vm = empty_vm(), fds[512];

	for (int i = 0; i < 512; i++) {
		struct kvm_vcpu_init init = { .target = KVM_ARM_TARGET_GENERIC_V8 };

		fds[i] = CHECK_OK(ioctl(vm, KVM_CREATE_VCPU, i));
		CHECK_OK(ioctl(fds[i], KVM_ARM_VCPU_INIT, &init));
	}
	EXPECT(fcntl(fds[511], F_GETFD) & FD_CLOEXEC);
}

TEST(create_device)
{
	struct kvm_create_device d = { .type = KVM_DEV_TYPE_ARM_VGIC_V3, .flags = KVM_CREATE_DEVICE_TEST, .fd = 77 };
	int vm = empty_vm(), fds;

	EXPECT_OK(ioctl(vm, KVM_CREATE_DEVICE, &d));
	EXPECT_EQ(d.fd, 77); /* nothing was made */
	d.type = 12345;
	EXPECT_ERRNO(ioctl(vm, KVM_CREATE_DEVICE, &d), ENODEV);
	d.flags = 0;
	EXPECT_ERRNO(ioctl(vm, KVM_CREATE_DEVICE, &d), ENODEV);
	d.type = KVM_DEV_TYPE_XICS;
	EXPECT_ERRNO(ioctl(vm, KVM_CREATE_DEVICE, &d), ENODEV);

	fds = open_fds();
	d.type = KVM_DEV_TYPE_ARM_VGIC_V3;
	EXPECT_OK(ioctl(vm, KVM_CREATE_DEVICE, &d));
	EXPECT(fcntl(d.fd, F_GETFD) & FD_CLOEXEC);
	EXPECT_EQ(open_fds(), fds + 1);
	/* One interrupt controller per VM. */
	EXPECT_ERRNO(ioctl(vm, KVM_CREATE_DEVICE, &d), EEXIST);
	EXPECT_EQ(open_fds(), fds + 1);
}

/* A GIC is made while no vCPU runs; vCPUs are made before it is initialised. */
TEST(create_device_and_vcpus)
{
	struct vm *vm = vm_create(.gic = true, .no_gic_init = true);

	EXPECT_OK(ioctl(vm->fd, KVM_CREATE_VCPU, 3));
	gic_init(vm);
	EXPECT_ERRNO(ioctl(vm->fd, KVM_CREATE_VCPU, 4), EBUSY);
}

static void guest_nothing(u64 arg)
{
}

TEST(create_device_after_run)
{
	struct kvm_create_device d = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 };
	struct vm *vm = vm_create(.main = guest_nothing);

	vcpu_done(&vm->vcpus[0]);
	EXPECT_ERRNO(ioctl(vm->fd, KVM_CREATE_DEVICE, &d), EBUSY);
}

static int irq_line(int vm, u32 type, u32 vcpu, u32 number, u32 level)
{
	struct kvm_irq_level l = {
		.irq = type << KVM_ARM_IRQ_TYPE_SHIFT | (vcpu >> 8) << KVM_ARM_IRQ_VCPU2_SHIFT | (vcpu & 0xff) << KVM_ARM_IRQ_VCPU_SHIFT | number,
		.level = level
	};

	return ioctl(vm, KVM_IRQ_LINE, &l);
}

TEST(irq_line)
{
	struct vm *vm = vm_create(.gic = true, .vcpus = 2);
	int fd = vm->fd;

	EXPECT_OK(irq_line(fd, KVM_ARM_IRQ_TYPE_SPI, 0, 32, 1));
	EXPECT_OK(irq_line(fd, KVM_ARM_IRQ_TYPE_SPI, 0, 32, 1));
	EXPECT_OK(irq_line(fd, KVM_ARM_IRQ_TYPE_SPI, 0, 32, 0));
	EXPECT_OK(irq_line(fd, KVM_ARM_IRQ_TYPE_SPI, 0, 127, 1));
	EXPECT_ERRNO(irq_line(fd, KVM_ARM_IRQ_TYPE_SPI, 0, 128, 1), EINVAL);
	EXPECT_ERRNO(irq_line(fd, KVM_ARM_IRQ_TYPE_SPI, 0, 1023, 1), EINVAL);
	EXPECT_ERRNO(irq_line(fd, KVM_ARM_IRQ_TYPE_SPI, 0, 65535, 1), EINVAL);
	EXPECT_ERRNO(irq_line(fd, KVM_ARM_IRQ_TYPE_SPI, 0, 31, 1), EINVAL);
	EXPECT_OK(irq_line(fd, KVM_ARM_IRQ_TYPE_PPI, 0, 16, 1));
	EXPECT_OK(irq_line(fd, KVM_ARM_IRQ_TYPE_PPI, 1, 31, 1));
	EXPECT_ERRNO(irq_line(fd, KVM_ARM_IRQ_TYPE_PPI, 0, 15, 1), EINVAL);
	EXPECT_ERRNO(irq_line(fd, KVM_ARM_IRQ_TYPE_PPI, 0, 32, 1), EINVAL);
	EXPECT_ERRNO(irq_line(fd, KVM_ARM_IRQ_TYPE_PPI, 2, 16, 1), EINVAL);
	EXPECT_ERRNO(irq_line(fd, KVM_ARM_IRQ_TYPE_PPI, 256, 16, 1), EINVAL); /* the upper bits of the vCPU number count */
	EXPECT_ERRNO(irq_line(fd, KVM_ARM_IRQ_TYPE_CPU, 0, 0, 1), ENXIO); /* only without an in-kernel GIC */
	EXPECT_ERRNO(irq_line(fd, 3, 0, 32, 1), EINVAL);
}

/* The older of two ways to ask: on arm64 there is no status, and no capability that says so. */
TEST(irq_line_with_status)
{
	struct vm *vm = vm_create(.gic = true);
	u32 spi = KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | 32;
	struct kvm_irq_level line = { .irq = spi, .level = 1 };

	EXPECT_EQ(cap(KVM_CAP_IRQ_INJECT_STATUS), 0);
	EXPECT_OK(ioctl(vm->fd, KVM_IRQ_LINE_STATUS, &line));
	EXPECT_EQ(line.irq, spi);
	EXPECT_EQ(line.level, 1);
	line.irq = KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | 31;
	EXPECT_ERRNO(ioctl(vm->fd, KVM_IRQ_LINE_STATUS, &line), EINVAL);
}

TEST(irq_line_without_gic)
{
	struct vm *vm = vm_create(.main = guest_nothing);

	EXPECT_ERRNO(irq_line(vm->fd, KVM_ARM_IRQ_TYPE_SPI, 0, 32, 1), ENXIO);
	EXPECT_ERRNO(irq_line(vm->fd, KVM_ARM_IRQ_TYPE_PPI, 0, 16, 1), ENXIO);
	EXPECT_OK(irq_line(vm->fd, KVM_ARM_IRQ_TYPE_CPU, 0, KVM_ARM_IRQ_CPU_IRQ, 1));
	EXPECT_OK(irq_line(vm->fd, KVM_ARM_IRQ_TYPE_CPU, 0, KVM_ARM_IRQ_CPU_FIQ, 0));
	EXPECT_ERRNO(irq_line(vm->fd, KVM_ARM_IRQ_TYPE_CPU, 0, 2, 1), EINVAL);
	EXPECT_ERRNO(irq_line(vm->fd, KVM_ARM_IRQ_TYPE_CPU, 1, 0, 1), EINVAL);
	EXPECT_ERRNO(irq_line(vm->fd, 3, 0, 0, 1), EINVAL);
}

TEST(irq_line_before_gic_init)
{
	struct vm *vm = vm_create(.gic = true, .no_gic_init = true);

	EXPECT_ERRNO(irq_line(vm->fd, KVM_ARM_IRQ_TYPE_SPI, 0, 32, 1), EBUSY);
	gic_init(vm);
	EXPECT_OK(irq_line(vm->fd, KVM_ARM_IRQ_TYPE_SPI, 0, 32, 1));
}

static int irqfd(int vm, int fd, u32 gsi, u32 flags, int resample)
{
	struct kvm_irqfd i = { .fd = fd, .gsi = gsi, .flags = flags, .resamplefd = resample };

	return ioctl(vm, KVM_IRQFD, &i);
}

TEST(irqfd)
{
	struct vm *vm = vm_create(.gic = true);
	int event = eventfd(0, 0), other = eventfd(0, 0), resample = eventfd(0, 0), null = open("/dev/null", O_RDWR);

	EXPECT_ERRNO(irqfd(vm->fd, event, 0, 1 << 2, 0), EINVAL);
	EXPECT_ERRNO(irqfd(vm->fd, 9999, 0, 0, 0), EBADF);
	EXPECT_ERRNO(irqfd(vm->fd, null, 0, 0, 0), EINVAL);
	EXPECT_OK(irqfd(vm->fd, event, 0, 0, 0));
	EXPECT_ERRNO(irqfd(vm->fd, event, 0, 0, 0), EBUSY);
	EXPECT_ERRNO(irqfd(vm->fd, event, 1, 0, 0), EBUSY);
	EXPECT_OK(irqfd(vm->fd, other, 0, 0, 0)); /* several sources of one line */
	EXPECT_OK(irqfd(vm->fd, event, 0, KVM_IRQFD_FLAG_DEASSIGN, 0));
	EXPECT_OK(irqfd(vm->fd, event, 0, KVM_IRQFD_FLAG_DEASSIGN, 0)); /* nothing there: no error */
	EXPECT_ERRNO(irqfd(vm->fd, 9999, 0, KVM_IRQFD_FLAG_DEASSIGN, 0), EBADF);
	EXPECT_OK(irqfd(vm->fd, event, 5, 0, 0));

	EXPECT_ERRNO(irqfd(vm->fd, resample, 6, KVM_IRQFD_FLAG_RESAMPLE, 9999), EBADF);
	EXPECT_ERRNO(irqfd(vm->fd, eventfd(0, 0), 6, KVM_IRQFD_FLAG_RESAMPLE, null), EINVAL);
	EXPECT_OK(irqfd(vm->fd, eventfd(0, 0), 6, KVM_IRQFD_FLAG_RESAMPLE, resample));
}

TEST(irqfd_without_gic)
{
	struct vm *vm = vm_create(.main = guest_nothing);
	int event = eventfd(0, 0);

	EXPECT_ERRNO(irqfd(vm->fd, event, 0, 0, 0), EAGAIN);
	EXPECT_ERRNO(irqfd(vm->fd, event, 0, KVM_IRQFD_FLAG_RESAMPLE, event), EAGAIN);
}

static int ioeventfd(int vm, int fd, u64 addr, u32 len, u32 flags, u64 match)
{
	struct kvm_ioeventfd i = { .fd = fd, .addr = addr, .len = len, .flags = flags, .datamatch = match };

	return ioctl(vm, KVM_IOEVENTFD, &i);
}

TEST(ioeventfd)
{
	const u32 match = KVM_IOEVENTFD_FLAG_DATAMATCH, remove = KVM_IOEVENTFD_FLAG_DEASSIGN;
	int vm = empty_vm(), event = eventfd(0, 0), other = eventfd(0, 0), null = open("/dev/null", O_RDWR);
	u64 at = 0x0a000000;

	EXPECT_ERRNO(ioeventfd(vm, event, at, 3, 0, 0), EINVAL);
	EXPECT_ERRNO(ioeventfd(vm, event, at, 16, 0, 0), EINVAL);
	EXPECT_ERRNO(ioeventfd(vm, event, at, 4, 1 << 5, 0), EINVAL);
	EXPECT_ERRNO(ioeventfd(vm, event, ~0UL, 4, 0, 0), EINVAL); /* wraps around */
	EXPECT_ERRNO(ioeventfd(vm, 9999, at, 4, 0, 0), EBADF);
	EXPECT_ERRNO(ioeventfd(vm, null, at, 4, 0, 0), EINVAL);
	EXPECT_ERRNO(ioeventfd(vm, event, at, 0, match, 0), EINVAL); /* nothing to match */
	EXPECT_OK(ioeventfd(vm, event, at, 4, 0, 0));
	EXPECT_ERRNO(ioeventfd(vm, event, at, 4, 0, 0), EEXIST);
	EXPECT_ERRNO(ioeventfd(vm, other, at, 4, 0, 0), EEXIST);
	EXPECT_ERRNO(ioeventfd(vm, other, at, 4, match, 1), EEXIST); /* the one without a match takes all */
	EXPECT_OK(ioeventfd(vm, other, at + 4, 4, match, 1));
	EXPECT_OK(ioeventfd(vm, other, at + 4, 4, match, 2));
	EXPECT_ERRNO(ioeventfd(vm, event, at + 4, 4, match, 2), EEXIST);
	EXPECT_ERRNO(ioeventfd(vm, event, at + 4, 4, match | remove, 2), ENOENT); /* another's */
	EXPECT_ERRNO(ioeventfd(vm, other, at + 4, 4, match | remove, 3), ENOENT);
	EXPECT_ERRNO(ioeventfd(vm, other, at + 4, 4, remove, 2), ENOENT);
	EXPECT_ERRNO(ioeventfd(vm, other, at + 4, 2, match | remove, 2), ENOENT);
	EXPECT_OK(ioeventfd(vm, other, at + 4, 4, match | remove, 2));
	EXPECT_ERRNO(ioeventfd(vm, other, at + 4, 4, match | remove, 2), ENOENT);
	EXPECT_OK(ioeventfd(vm, other, at + 8, 0, 0, 0)); /* any length */
	EXPECT_OK(ioeventfd(vm, event, at + 16, 8, 0, 0));
	EXPECT_ERRNO(ioeventfd(vm, 9999, at, 4, remove, 0), EBADF);
	close(event); /* still assigned: goes with the VM */
}

static struct {
	struct kvm_irq_routing head;
	struct kvm_irq_routing_entry entries[4097];
} routing;

TEST(gsi_routing)
{
	struct vm *vm = vm_create(.gic = true);
	int max = cap(KVM_CAP_IRQ_ROUTING);

#define SET(n)                                                    \
	({                                                        \
		routing.head.nr = n;                              \
		ioctl(vm->fd, KVM_SET_GSI_ROUTING, &routing.head); \
	})
	EXPECT_OK(SET(0)); /* none at all */
	routing.entries[0] = (struct kvm_irq_routing_entry){ .gsi = 3, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { .irqchip = 0, .pin = 5 } };
	EXPECT_OK(SET(1));
	routing.head.flags = 1;
	EXPECT_ERRNO(SET(1), EINVAL);
	routing.head.flags = 0;
	routing.entries[0].type = 99;
	EXPECT_ERRNO(SET(1), EINVAL);
	routing.entries[0].type = KVM_IRQ_ROUTING_IRQCHIP;
	routing.entries[0].flags = 1;
	EXPECT_ERRNO(SET(1), EINVAL);
	routing.entries[0].flags = 0;
	routing.entries[0].u.irqchip.irqchip = 1; /* there is one chip */
	EXPECT_ERRNO(SET(1), EINVAL);
	routing.entries[0].u.irqchip.irqchip = 0;
	routing.entries[0].u.irqchip.pin = 1020;
	EXPECT_ERRNO(SET(1), EINVAL);
	routing.entries[0].u.irqchip.pin = 5;
	/* One line to two pins of one chip is not possible. */
	routing.entries[1] = routing.entries[0];
	routing.entries[1].u.irqchip.pin = 6;
	EXPECT_ERRNO(SET(2), EINVAL);
	routing.entries[1].gsi = 4;
	EXPECT_OK(SET(2));
	EXPECT_ERRNO(SET(max + 1), EINVAL);
}

TEST(enable_cap)
{
	struct kvm_enable_cap c = { .cap = KVM_CAP_ARM_NISV_TO_USER };
	int vm = empty_vm();

	EXPECT_OK(ioctl(vm, KVM_ENABLE_CAP, &c));
	c.cap = KVM_CAP_ARM_SEA_TO_USER;
	EXPECT_OK(ioctl(vm, KVM_ENABLE_CAP, &c));
	c.flags = 1;
	EXPECT_ERRNO(ioctl(vm, KVM_ENABLE_CAP, &c), EINVAL);
	c = (struct kvm_enable_cap){ .cap = 100000 };
	EXPECT_ERRNO(ioctl(vm, KVM_ENABLE_CAP, &c), EINVAL);
	c.cap = KVM_CAP_USER_MEMORY; /* there without being enabled */
	EXPECT_ERRNO(ioctl(vm, KVM_ENABLE_CAP, &c), EINVAL);
}

TEST(vm_device_attributes)
{
	int vm = empty_vm();

	EXPECT_ERRNO(attr_has(vm, 12345, 0), ENXIO);
	EXPECT_ERRNO(ioctl(vm, KVM_HAS_DEVICE_ATTR, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(attr_set(vm, 12345, 0, &(u64){ 0 }), ENXIO);
}

TEST(counter_offset)
{
	struct kvm_arm_counter_offset offset = { .counter_offset = 1000 };
	struct vm *vm = vm_create(.main = guest_nothing);

	offset.reserved = 1;
	EXPECT_ERRNO(ioctl(vm->fd, KVM_ARM_SET_COUNTER_OFFSET, &offset), EINVAL);
	offset.reserved = 0;
	EXPECT_OK(ioctl(vm->fd, KVM_ARM_SET_COUNTER_OFFSET, &offset));
	EXPECT_OK(ioctl(vm->fd, KVM_ARM_SET_COUNTER_OFFSET, &offset));
}
