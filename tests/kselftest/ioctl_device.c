// SPDX-License-Identifier: GPL-2.0
/* The contract of the in-kernel GICv3's device file. What its registers do for a guest is in the gic_* tests. */
#include <unistd.h>

#include "abi.h"
#include "gic.h"

#define ADDR KVM_DEV_ARM_VGIC_GRP_ADDR
#define DIST KVM_VGIC_V3_ADDR_TYPE_DIST
#define REDIST KVM_VGIC_V3_ADDR_TYPE_REDIST
#define REGION KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION
#define NR_IRQS KVM_DEV_ARM_VGIC_GRP_NR_IRQS
#define GIC_CTRL KVM_DEV_ARM_VGIC_GRP_CTRL
#define INIT KVM_DEV_ARM_VGIC_CTRL_INIT
#define DIST_REGS KVM_DEV_ARM_VGIC_GRP_DIST_REGS
#define REDIST_REGS KVM_DEV_ARM_VGIC_GRP_REDIST_REGS
#define CPU_SYSREGS KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS
#define LEVEL_INFO KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO
#define MAINT_IRQ 9 /* KVM_DEV_ARM_VGIC_GRP_MAINT_IRQ, not in older headers */

#define REGION_ATTR(base, count, flags, index) ((u64)(count) << 52 | (base) | (u64)(flags) << 12 | (index))

static void guest_nothing(u64 arg)
{
}

/* A VM with vCPUs and a bare GIC: no addresses yet. */
static struct vm *bare_gic(u32 vcpus)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 };
	struct vm *vm = vm_create(.main = guest_nothing, .vcpus = vcpus);

	CHECK_OK(ioctl(vm->fd, KVM_CREATE_DEVICE, &device));
	vm->gic = device.fd;
	return vm;
}

TEST(unknown)
{
	struct vm *vm = bare_gic(1);
	u64 v = 0;

	EXPECT_ERRNO(ioctl(vm->gic, UNKNOWN_IOCTL, 0), ENOTTY);
	EXPECT_ERRNO(ioctl(vm->gic, KVM_RUN, 0), ENOTTY);
	EXPECT_ERRNO(ioctl(vm->gic, KVM_HAS_DEVICE_ATTR, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(ioctl(vm->gic, KVM_SET_DEVICE_ATTR, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(ioctl(vm->gic, KVM_GET_DEVICE_ATTR, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(attr_has(vm->gic, 99, 0), ENXIO);
	EXPECT_ERRNO(attr_set(vm->gic, 99, 0, &v), ENXIO);
	EXPECT_ERRNO(attr_get(vm->gic, 99, 0, &v), ENXIO);
}

TEST(has)
{
	struct vm *vm = bare_gic(1);
	int fd = vm->gic;

	EXPECT_OK(attr_has(fd, ADDR, DIST));
	EXPECT_OK(attr_has(fd, ADDR, REDIST));
	EXPECT_OK(attr_has(fd, ADDR, REGION));
	EXPECT_ERRNO(attr_has(fd, ADDR, KVM_VGIC_V2_ADDR_TYPE_DIST), ENXIO);
	EXPECT_ERRNO(attr_has(fd, ADDR, KVM_VGIC_V2_ADDR_TYPE_CPU), ENXIO);
	EXPECT_ERRNO(attr_has(fd, ADDR, KVM_VGIC_ITS_ADDR_TYPE), ENXIO);
	EXPECT_OK(attr_has(fd, NR_IRQS, 0));
	EXPECT_OK(attr_has(fd, GIC_CTRL, INIT));
	EXPECT_ERRNO(attr_has(fd, GIC_CTRL, 99), ENXIO);
	EXPECT_OK(attr_has(fd, DIST_REGS, GICD_CTLR));
	EXPECT_OK(attr_has(fd, DIST_REGS, GICD_TYPER));
	EXPECT_ERRNO(attr_has(fd, DIST_REGS, 0x5000), ENXIO);
	EXPECT_OK(attr_has(fd, REDIST_REGS, GICR_WAKER));
	EXPECT_OK(attr_has(fd, REDIST_REGS, GICR_ISPENDR0));
	EXPECT_ERRNO(attr_has(fd, REDIST_REGS, 0x1000), ENXIO);
	EXPECT_OK(attr_has(fd, CPU_SYSREGS, 0xc230)); /* ICC_PMR_EL1 */
	EXPECT_ERRNO(attr_has(fd, CPU_SYSREGS, 0xc000), ENXIO);
	EXPECT_OK(attr_has(fd, GIC_CTRL, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES));
	EXPECT_OK(attr_has(fd, LEVEL_INFO, 7UL << 32)); /* whoever it is of */
	EXPECT_ERRNO(attr_has(fd, LEVEL_INFO, 1 << 10), ENXIO);
	EXPECT_ERRNO(attr_has(fd, ADDR, 1UL << 32 | DIST), ENXIO);
	EXPECT_ERRNO(attr_has(fd, DIST_REGS, GICD_CTLR + 2), ENXIO);
	EXPECT_ERRNO(attr_has(fd, DIST_REGS, 0x10000), ENXIO);
	EXPECT_ERRNO(attr_has(fd, REDIST_REGS, 7UL << 32 | GICR_WAKER), EINVAL); /* no such vCPU */
	/* Registers of shared interrupts come with these. */
	EXPECT_ERRNO(attr_has(fd, DIST_REGS, GICD_ISENABLER + 4), ENXIO);
	CHECK_OK(attr_set(fd, NR_IRQS, 0, &(u32){ 64 }));
	EXPECT_OK(attr_has(fd, DIST_REGS, GICD_ISENABLER + 4));
	EXPECT_ERRNO(attr_has(fd, DIST_REGS, GICD_ISENABLER + 8), ENXIO);
}

/* Without a vCPU there is no distributor to ask. */
TEST(no_vcpu)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 };
	int vm = CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0));
	u32 v = 0;

	CHECK_OK(ioctl(vm, KVM_CREATE_DEVICE, &device));
	EXPECT_ERRNO(attr_has(device.fd, DIST_REGS, GICD_CTLR), EINVAL);
	EXPECT_ERRNO(attr_get(device.fd, DIST_REGS, GICD_IIDR, &v), EINVAL);
	EXPECT_OK(attr_has(device.fd, LEVEL_INFO, 0));
}

TEST(addresses)
{
	struct vm *vm = bare_gic(1);
	int fd = vm->gic;
	u64 a;

	EXPECT_OK(attr_get(fd, ADDR, DIST, &a));
	EXPECT_EQ(a, ~0UL); /* not set */
	EXPECT_ERRNO(attr_set(fd, ADDR, DIST, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(attr_set(fd, ADDR, DIST, &(u64){ 0x08001000 }), EINVAL); /* 64 KiB alignment */
	EXPECT_ERRNO(attr_set(fd, ADDR, DIST, &(u64){ 1UL << 40 }), E2BIG);
	EXPECT_ERRNO(attr_set(fd, ADDR, DIST, &(u64){ 1UL << 63 }), E2BIG);
	EXPECT_ERRNO(attr_set(fd, ADDR, KVM_VGIC_V2_ADDR_TYPE_DIST, &(u64){ 0x08000000 }), ENXIO);
	EXPECT_ERRNO(attr_set(fd, ADDR, 99, &(u64){ 0x08000000 }), ENXIO);
	EXPECT_OK(attr_set(fd, ADDR, DIST, &(u64){ 0x08000000 }));
	EXPECT_OK(attr_get(fd, ADDR, DIST, &a));
	EXPECT_EQ(a, 0x08000000);
	EXPECT_ERRNO(attr_set(fd, ADDR, DIST, &(u64){ 0x08000000 }), EEXIST);
	EXPECT_ERRNO(attr_set(fd, ADDR, DIST, &(u64){ 0x08100000 }), EEXIST);

	EXPECT_ERRNO(attr_set(fd, ADDR, REDIST, &(u64){ 0x080a1000 }), EINVAL);
	EXPECT_ERRNO(attr_set(fd, ADDR, REDIST, &(u64){ 1UL << 40 }), E2BIG);
	EXPECT_OK(attr_set(fd, ADDR, REDIST, &(u64){ 0x080a0000 }));
	EXPECT_OK(attr_get(fd, ADDR, REDIST, &a));
	EXPECT_EQ(a, 0x080a0000);
	EXPECT_ERRNO(attr_set(fd, ADDR, REDIST, &(u64){ 0x09000000 }), EEXIST);
}

TEST(redistributor_regions)
{
	struct vm *vm = bare_gic(4);
	int fd = vm->gic;
	u64 a;

	EXPECT_ERRNO(attr_set(fd, ADDR, REGION, &(u64){ REGION_ATTR(0x100000, 0, 0, 0) }), EINVAL); /* no count */
	EXPECT_ERRNO(attr_set(fd, ADDR, REGION, &(u64){ REGION_ATTR(0x100000, 2, 1, 0) }), EINVAL); /* flags */
	EXPECT_ERRNO(attr_set(fd, ADDR, REGION, &(u64){ REGION_ATTR(0x100000, 2, 0, 1) }), EINVAL); /* not the next index */
	EXPECT_ERRNO(attr_set(fd, ADDR, REGION, &(u64){ REGION_ATTR(1UL << 40, 2, 0, 0) }), E2BIG);
	EXPECT_OK(attr_set(fd, ADDR, REGION, &(u64){ REGION_ATTR(0x100000, 2, 0, 0) }));
	EXPECT_ERRNO(attr_set(fd, ADDR, REGION, &(u64){ REGION_ATTR(0x120000, 2, 0, 1) }), EINVAL); /* overlaps */
	EXPECT_OK(attr_set(fd, ADDR, REGION, &(u64){ REGION_ATTR(0x240000, 2, 0, 1) }));
	a = 1;
	EXPECT_OK(attr_get(fd, ADDR, REGION, &a));
	EXPECT_EQ(a, REGION_ATTR(0x240000, 2, 0, 1));
	a = 2;
	EXPECT_ERRNO(attr_get(fd, ADDR, REGION, &a), ENOENT);
	/* The older way cannot be mixed in. */
	EXPECT_ERRNO(attr_set(fd, ADDR, REDIST, &(u64){ 0x400000 }), EINVAL);
	EXPECT_OK(attr_set(fd, ADDR, DIST, &(u64){ 0x08000000 }));
	EXPECT_OK(attr_set(fd, GIC_CTRL, INIT, NULL));
	vcpu_done(&vm->vcpus[3]);
}

static u32 typer(struct vm *vm, u64 vcpu)
{
	u32 v = 0;

	EXPECT_OK(attr_get(vm->gic, REDIST_REGS, vcpu << 32 | GICR_TYPER, &v));
	return v;
}

/* The last redistributor of several in a row says so; regions may come after initialisation. */
TEST(last_redistributor)
{
	struct vm *vm = bare_gic(4);
	int fd = vm->gic;

	CHECK_OK(attr_set(fd, GIC_CTRL, INIT, NULL));
	EXPECT_EQ(typer(vm, 3), 0x300); /* nowhere yet */
	EXPECT_OK(attr_set(fd, ADDR, REGION, &(u64){ REGION_ATTR(0x100000, 1, 0, 0) }));
	EXPECT_EQ(typer(vm, 0), 0x010);
	EXPECT_EQ(typer(vm, 1), 0x100);
	EXPECT_OK(attr_set(fd, ADDR, REGION, &(u64){ REGION_ATTR(0x120000, 2, 0, 1) })); /* adjoins the first */
	EXPECT_EQ(typer(vm, 0), 0x000);
	EXPECT_EQ(typer(vm, 1), 0x100);
	EXPECT_EQ(typer(vm, 2), 0x210);
	EXPECT_OK(attr_set(fd, ADDR, DIST, &(u64){ 0x160000 }));
	EXPECT_ERRNO(attr_set(fd, ADDR, REGION, &(u64){ REGION_ATTR(0x160000, 8, 0, 2) }), EINVAL); /* over the distributor */
	EXPECT_OK(attr_set(fd, ADDR, REGION, &(u64){ REGION_ATTR(0x200000, 8, 0, 2) })); /* not full */
	EXPECT_EQ(typer(vm, 2), 0x210);
	EXPECT_EQ(typer(vm, 3), 0x310);
	vcpu_done(&vm->vcpus[3]);
}

/* A VM whose first run fails for want of an address has had its chance. */
TEST(no_second_run)
{
	struct vm *vm = bare_gic(1);
	u64 a;

	CHECK_OK(attr_set(vm->gic, ADDR, REDIST, &(u64){ 0x100000 }));
	CHECK_OK(attr_set(vm->gic, GIC_CTRL, INIT, NULL));
	EXPECT_EQ(vcpu_run(&vm->vcpus[0]), -ENXIO);
	EXPECT_ERRNO(attr_get(vm->gic, ADDR, DIST, &a), EIO);
	EXPECT_ERRNO(ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY), EIO);
	EXPECT_EQ(vcpu_run(&vm->vcpus[0]), -EIO);
}

TEST(maintenance_interrupt)
{
	struct vm *vm = bare_gic(1);
	int fd = vm->gic;
	u32 n;

	if (attr_has(fd, MAINT_IRQ, 0))
		SKIP("no KVM_DEV_ARM_VGIC_GRP_MAINT_IRQ");
	EXPECT_ERRNO(attr_set(fd, MAINT_IRQ, 0, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(attr_set(fd, MAINT_IRQ, 0, &(u32){ 15 }), EINVAL);
	EXPECT_ERRNO(attr_set(fd, MAINT_IRQ, 0, &(u32){ 32 }), EINVAL);
	EXPECT_OK(attr_set(fd, MAINT_IRQ, 0, &(u32){ 25 }));
	EXPECT_OK(attr_get(fd, MAINT_IRQ, 0, &n));
	EXPECT_EQ(n, 25);
	CHECK_OK(attr_set(fd, GIC_CTRL, INIT, NULL));
	EXPECT_ERRNO(attr_set(fd, MAINT_IRQ, 0, &(u32){ 26 }), EBUSY);
}

TEST(too_few_redistributors)
{
	struct vm *vm = bare_gic(3);

	CHECK_OK(attr_set(vm->gic, ADDR, REGION, &(u64){ REGION_ATTR(0x100000, 2, 0, 0) }));
	CHECK_OK(attr_set(vm->gic, ADDR, DIST, &(u64){ 0x08000000 }));
	EXPECT_OK(attr_set(vm->gic, GIC_CTRL, INIT, NULL));
	EXPECT_EQ(vcpu_run(&vm->vcpus[0]), -ENXIO);
}

TEST(nr_irqs)
{
	struct vm *vm = bare_gic(1);
	int fd = vm->gic;
	u32 n = 0;

	EXPECT_ERRNO(attr_set(fd, NR_IRQS, 0, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(attr_set(fd, NR_IRQS, 0, &(u32){ 32 }), EINVAL);
	EXPECT_ERRNO(attr_set(fd, NR_IRQS, 0, &(u32){ 65 }), EINVAL);
	EXPECT_ERRNO(attr_set(fd, NR_IRQS, 0, &(u32){ 1023 }), EINVAL);
	EXPECT_ERRNO(attr_set(fd, NR_IRQS, 0, &(u32){ 1024 }), EINVAL);
	EXPECT_ERRNO(attr_set(fd, NR_IRQS, 0, &(u32){ 1056 }), EINVAL);
	EXPECT_OK(attr_get(fd, NR_IRQS, 0, &n));
	EXPECT_EQ(n, 32); /* the private ones are always there */
	EXPECT_OK(attr_set(fd, NR_IRQS, 0, &(u32){ 96 }));
	EXPECT_OK(attr_get(fd, NR_IRQS, 0, &n));
	EXPECT_EQ(n, 96);
	EXPECT_ERRNO(attr_set(fd, NR_IRQS, 0, &(u32){ 96 }), EBUSY);
	EXPECT_ERRNO(attr_set(fd, NR_IRQS, 0, &(u32){ 1024 }), EINVAL);
}

TEST(nr_irqs_limits)
{
	u32 n = 0;

	for (u32 i = 0; i < 2; i++) {
		u32 limit = i ? 992 : 64;
		struct vm *vm = bare_gic(1);

		EXPECT_ERRNO(attr_set(vm->gic, NR_IRQS, 0, &(u32){ i ? 1024 : 32 }), EINVAL);
		EXPECT_OK(attr_set(vm->gic, NR_IRQS, 0, &limit));
		EXPECT_OK(attr_set(vm->gic, GIC_CTRL, INIT, NULL));
		EXPECT_OK(attr_get(vm->gic, NR_IRQS, 0, &n));
		EXPECT_EQ(n, limit);
	}
}

TEST(init)
{
	struct vm *vm = bare_gic(1);
	int fd = vm->gic;
	u32 n = 0;

	EXPECT_ERRNO(attr_set(fd, GIC_CTRL, 99, NULL), ENXIO);
	EXPECT_ERRNO(attr_get(fd, GIC_CTRL, INIT, &n), ENXIO);
	EXPECT_ERRNO(attr_set(fd, GIC_CTRL, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES, NULL), ENXIO);
	EXPECT_OK(attr_set(fd, GIC_CTRL, INIT, NULL));
	EXPECT_OK(attr_set(fd, GIC_CTRL, INIT, NULL)); /* again is no error */
	EXPECT_OK(attr_set(fd, GIC_CTRL, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES, NULL));
	EXPECT_OK(attr_get(fd, NR_IRQS, 0, &n));
	EXPECT_EQ(n, 256); /* the default */
	EXPECT_ERRNO(attr_set(fd, NR_IRQS, 0, &(u32){ 96 }), EBUSY);
}

/* It is complete then: a vCPU comes too late. */
TEST(init_without_vcpus)
{
	struct vm vm = { .fd = CHECK_OK(ioctl(sys_fd(), KVM_CREATE_VM, 0)) };
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 };
	u32 v = 0;

	CHECK_OK(ioctl(vm.fd, KVM_CREATE_DEVICE, &device));
	EXPECT_OK(attr_set(device.fd, GIC_CTRL, INIT, NULL));
	EXPECT_ERRNO(ioctl(vm.fd, KVM_CREATE_VCPU, 0), EBUSY);
	vm_irq(&vm, 40, 1);
	vm_irq(&vm, 40, 0);
	EXPECT_OK(attr_set(device.fd, GIC_CTRL, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES, NULL));
	EXPECT_ERRNO(attr_get(device.fd, DIST_REGS, GICD_CTLR, &v), EINVAL); /* each is asked of a vCPU */
}

TEST(run_without_addresses)
{
	struct vm *vm = bare_gic(1);

	CHECK_OK(attr_set(vm->gic, GIC_CTRL, INIT, NULL));
	EXPECT_EQ(vcpu_run(&vm->vcpus[0]), -ENXIO);
}

TEST(overlapping_frames)
{
	struct vm *vm = bare_gic(1);

	CHECK_OK(attr_set(vm->gic, ADDR, DIST, &(u64){ 0x08000000 }));
	EXPECT_ERRNO(attr_set(vm->gic, ADDR, REDIST, &(u64){ 0x08000000 }), EINVAL);
}

static int reg_access(struct vm *vm, u32 group, u64 attr, u32 *value, bool write)
{
	return write ? attr_set(vm->gic, group, attr, value) : attr_get(vm->gic, group, attr, value);
}

TEST(registers_before_init)
{
	struct vm *vm = bare_gic(1);
	u32 v = 0;

	EXPECT_ERRNO(reg_access(vm, DIST_REGS, GICD_CTLR, &v, false), EBUSY);
	EXPECT_ERRNO(reg_access(vm, REDIST_REGS, GICR_WAKER, &v, false), EBUSY);
	EXPECT_ERRNO(reg_access(vm, CPU_SYSREGS, 0xc230, &v, false), EBUSY);
	EXPECT_ERRNO(reg_access(vm, LEVEL_INFO, 32, &v, true), EBUSY);
	EXPECT_OK(reg_access(vm, DIST_REGS, GICD_IIDR, &v, false)); /* what it is may be asked */
}

TEST(registers)
{
	struct vm *vm = vm_create(.main = guest_nothing, .gic = true, .vcpus = 2);
	u64 second = 1UL << 32;
	u32 v = 0;
	u64 wide = 0;

	EXPECT_OK(reg_access(vm, DIST_REGS, GICD_TYPER, &v, false));
	EXPECT_EQ(v & 0x1f, 128 / 32 - 1);
	EXPECT_OK(reg_access(vm, DIST_REGS, GICD_IIDR, &v, false));
	EXPECT_OK(reg_access(vm, DIST_REGS, GICD_IIDR, &v, true)); /* only what it is */
	EXPECT_ERRNO(reg_access(vm, DIST_REGS, GICD_IIDR, &(u32){ 0x12345678 }, true), EINVAL);
	EXPECT_OK(attr_has(vm->gic, DIST_REGS, GICD_IROUTER + 8 * 40));
	EXPECT_ERRNO(reg_access(vm, DIST_REGS, GICD_TYPER, BAD_POINTER, false), EFAULT);
	EXPECT_ERRNO(reg_access(vm, DIST_REGS, GICD_CTLR, BAD_POINTER, true), EFAULT);

	/* What is not there reads as zero. */
	EXPECT_OK(reg_access(vm, DIST_REGS, 0x5000, &v, false));
	EXPECT_EQ(v, 0);
	EXPECT_OK(reg_access(vm, DIST_REGS, 0x10000, &(u32){ ~0u }, true));
	v = 1;
	EXPECT_OK(reg_access(vm, DIST_REGS, 0x10000, &v, false));
	EXPECT_EQ(v, 0);

	/* Interrupt state: enable, pending, active, priority, configuration. */
	EXPECT_OK(reg_access(vm, DIST_REGS, GICD_ISENABLER + 4, &(u32){ 0x5 }, true));
	EXPECT_OK(reg_access(vm, DIST_REGS, GICD_ISENABLER + 4, &v, false));
	EXPECT_EQ(v, 0x5);
	EXPECT_OK(reg_access(vm, DIST_REGS, GICD_ISACTIVER + 8, &(u32){ 0x80000001 }, true));
	EXPECT_OK(reg_access(vm, DIST_REGS, GICD_ISACTIVER + 8, &v, false));
	EXPECT_EQ(v, 0x80000001);
	EXPECT_OK(reg_access(vm, DIST_REGS, GICD_ISPENDR + 4, &(u32){ 0xf0 }, true));
	EXPECT_OK(reg_access(vm, DIST_REGS, GICD_ISPENDR + 4, &v, false));
	EXPECT_EQ(v, 0xf0);
	EXPECT_OK(reg_access(vm, DIST_REGS, GICD_ISPENDR + 4, &(u32){ 0 }, true)); /* userspace sets the whole state */
	EXPECT_OK(reg_access(vm, DIST_REGS, GICD_ISPENDR + 4, &v, false));
	EXPECT_EQ(v, 0);
	EXPECT_OK(reg_access(vm, DIST_REGS, GICD_IPRIORITYR + 32, &(u32){ 0xf8a09008 }, true));
	EXPECT_OK(reg_access(vm, DIST_REGS, GICD_IPRIORITYR + 32, &v, false));
	EXPECT_EQ(v, 0xf8a09008);

	/* Redistributors are told apart by affinity. */
	EXPECT_OK(reg_access(vm, REDIST_REGS, second | GICR_ISENABLER0, &(u32){ 0x00ff0000 }, true));
	EXPECT_OK(reg_access(vm, REDIST_REGS, second | GICR_ISENABLER0, &v, false));
	EXPECT_EQ(v & 0xffff0000, 0x00ff0000);
	EXPECT_OK(reg_access(vm, REDIST_REGS, GICR_ISENABLER0, &v, false));
	EXPECT_EQ(v & 0x00ff0000, 0);
	EXPECT_ERRNO(reg_access(vm, REDIST_REGS, 7UL << 32 | GICR_ISENABLER0, &v, false), EINVAL);
	EXPECT_OK(reg_access(vm, REDIST_REGS, second | GICR_TYPER, &v, false));
	EXPECT_EQ(v & 0x10, 0x10); /* the last */
	EXPECT_OK(reg_access(vm, REDIST_REGS, GICR_TYPER, &v, false));
	EXPECT_EQ(v & 0x10, 0);

	/* CPU interface. */
	EXPECT_OK(attr_set(vm->gic, CPU_SYSREGS, second | 0xc230, &(u64){ 0xf0 })); /* PMR */
	EXPECT_OK(attr_get(vm->gic, CPU_SYSREGS, second | 0xc230, &wide));
	EXPECT_EQ(wide, 0xf0);
	EXPECT_OK(attr_set(vm->gic, CPU_SYSREGS, 0xc667, &(u64){ 1 })); /* IGRPEN1 */
	EXPECT_OK(attr_get(vm->gic, CPU_SYSREGS, 0xc667, &wide));
	EXPECT_EQ(wide, 1);
	EXPECT_ERRNO(attr_get(vm->gic, CPU_SYSREGS, 0xc000, &wide), ENOENT);
	EXPECT_ERRNO(attr_set(vm->gic, CPU_SYSREGS, 0xc000, &wide), ENOENT);
	EXPECT_ERRNO(attr_set(vm->gic, CPU_SYSREGS, 0xc000, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(attr_get(vm->gic, CPU_SYSREGS, 0xc230, BAD_POINTER), EFAULT);
	EXPECT_ERRNO(attr_get(vm->gic, CPU_SYSREGS, 7UL << 32 | 0xc230, &wide), EINVAL);

	/* Line levels: a bit per interrupt, 32 at a time. */
	EXPECT_OK(reg_access(vm, DIST_REGS, GICD_ICFGR + 16, &(u32){ 0 }, true)); /* level-sensitive */
	EXPECT_OK(reg_access(vm, LEVEL_INFO, 64, &(u32){ 0x11 }, true));
	EXPECT_OK(reg_access(vm, LEVEL_INFO, 64, &v, false));
	EXPECT_EQ(v, 0x11);
	EXPECT_ERRNO(reg_access(vm, LEVEL_INFO, 65, &v, false), EINVAL);
	EXPECT_ERRNO(reg_access(vm, LEVEL_INFO, 1 << 10 | 64, &v, false), EINVAL);
}

static int running, stop_running;

static void guest_spin(u64 arg)
{
	WRITE_ONCE(running, 1);
	while (!READ_ONCE(stop_running))
		;
}

/* Not while a vCPU runs: its state is in the CPU. */
TEST(registers_while_running)
{
	struct vm *vm = vm_create(.main = guest_spin, .gic = true);
	u32 v = 0;

	vcpu_start(&vm->vcpus[0]);
	while (!VM_GLOBAL(vm, running))
		sleep_us(1000);
	EXPECT_ERRNO(reg_access(vm, DIST_REGS, GICD_CTLR, &v, false), EBUSY);
	EXPECT_ERRNO(reg_access(vm, REDIST_REGS, GICR_WAKER, &v, false), EBUSY);
	EXPECT_ERRNO(reg_access(vm, CPU_SYSREGS, 0xc230, &v, false), EBUSY);
	EXPECT_ERRNO(reg_access(vm, LEVEL_INFO, 32, &v, true), EBUSY);
	EXPECT_ERRNO(attr_set(vm->gic, GIC_CTRL, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES, NULL), EBUSY);
	VM_GLOBAL(vm, stop_running) = 1;
	vcpu_join(&vm->vcpus[0]);
	EXPECT_OK(reg_access(vm, DIST_REGS, GICD_CTLR, &v, false));
}

static void guest_masks(u64 arg)
{
	GUEST_CHECK_EQ(read_sysreg(ICC_PMR_EL1), 0xa0); /* as userspace has set it */
	write_sysreg(0x50, ICC_PMR_EL1);
	GUEST_SYNC(1);
	GUEST_CHECK_EQ(read_sysreg(ICC_PMR_EL1), 0xf0);
}

/* The CPU interface is the guest's, and userspace's between two runs. */
TEST(cpu_interface_between_runs)
{
	struct vm *vm = vm_create(.main = guest_masks, .gic = true);
	u64 v = 0;

	EXPECT_OK(attr_set(vm->gic, CPU_SYSREGS, 0xc230, &(u64){ 0xa0 }));
	vcpu_sync(&vm->vcpus[0], 1);
	EXPECT_OK(attr_get(vm->gic, CPU_SYSREGS, 0xc230, &v));
	EXPECT_EQ(v, 0x50);
	EXPECT_OK(attr_set(vm->gic, CPU_SYSREGS, 0xc230, &(u64){ 0xf0 }));
	vcpu_done(&vm->vcpus[0]);
}

/* The device file may be closed before the VM ends. */
TEST(closed_early)
{
	struct vm *vm = vm_create(.main = guest_nothing, .gic = true);
	struct kvm_create_device again = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 };

	close(vm->gic);
	vm->gic = -1;
	EXPECT_ERRNO(ioctl(vm->fd, KVM_CREATE_DEVICE, &again), EEXIST);
	vcpu_done(&vm->vcpus[0]);
}
