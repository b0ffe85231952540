// SPDX-License-Identifier: GPL-2.0
/* Every register of the in-kernel GICv3 as the guest sees it (IHI 0069, chapters 9 and 12). 128 interrupts. */
#include "gic.h"
#include "vm.h"

#define D(reg) (GUEST_GICD + (reg))
#define R(cpu, reg) (GUEST_GICR + (cpu) * GUEST_GICR_STRIDE + (reg))
#define SPI_WORDS 3 /* words of 32 SPIs */

#define CASE(name, guest)                                       \
	TEST(name)                                              \
	{                                                       \
		struct vm *vm = vm_create(.main = guest, .gic = true, .vcpus = 2); \
		vcpu_done(&vm->vcpus[0]);                       \
	}

static void guest_identity(u64 arg)
{
	u32 typer = mmio_read32(D(GICD_TYPER)), ctlr;

	GUEST_CHECK_EQ(typer & 0x1f, 3);
	GUEST_CHECK_EQ(typer >> 10 & 1, 0); /* one security state */
	GUEST_CHECK((typer >> 19 & 0x1f) >= 9); /* interrupt identifier bits, minus one */
	mmio_write32(D(GICD_TYPER), ~0u);
	GUEST_CHECK_EQ(mmio_read32(D(GICD_TYPER)), typer);
	GUEST_CHECK(mmio_read32(D(GICD_IIDR)) != 0);
	GUEST_CHECK_EQ(mmio_read32(D(GICD_PIDR2)) >> 4 & 0xf, 3); /* GICv3 */
	GUEST_CHECK_EQ(mmio_read32(R(0, GICR_PIDR2)) >> 4 & 0xf, 3);

	mmio_write32(D(GICD_CTLR), 0);
	ctlr = mmio_read32(D(GICD_CTLR));
	GUEST_CHECK_EQ(ctlr, GICD_CTLR_ARE | GICD_CTLR_DS); /* both always set here */
	mmio_write32(D(GICD_CTLR), ~0u);
	ctlr = mmio_read32(D(GICD_CTLR));
	GUEST_CHECK(ctlr & GICD_CTLR_GRP1A);
	GUEST_CHECK_EQ(ctlr >> 31, 0); /* no write pending */
	mmio_write32(D(GICD_CTLR), GICD_CTLR_GRP1A);
	GUEST_CHECK_EQ(mmio_read32(D(GICD_CTLR)) & GICD_CTLR_GRP1A, GICD_CTLR_GRP1A);
}
CASE(identity, guest_identity)

/* Set and clear registers: each bit alone, both views the same, neighbours untouched. */
static void set_clear(u64 set, u64 clear, u32 mask)
{
	mmio_write32(clear, ~0u);
	GUEST_CHECK_EQ(mmio_read32(set) & mask, 0);
	for (u32 bit = 0; bit < 32; bit++) {
		u32 b = 1u << bit & mask;

		mmio_write32(set, b);
		GUEST_CHECK_EQ(mmio_read32(set) & mask, b);
		GUEST_CHECK_EQ(mmio_read32(clear) & mask, b);
		mmio_write32(set, 0); /* writing zeros does nothing */
		GUEST_CHECK_EQ(mmio_read32(set) & mask, b);
		mmio_write32(clear, b);
		GUEST_CHECK_EQ(mmio_read32(set) & mask, 0);
	}
	mmio_write32(set, 0xa5a5a5a5 & mask);
	mmio_write32(clear, 0x05050505);
	GUEST_CHECK_EQ(mmio_read32(set) & mask, 0xa0a0a0a0 & mask);
	mmio_write32(clear, ~0u);
}

static void guest_set_clear(u64 arg)
{
	mmio_write32(D(GICD_CTLR), 0); /* nothing is to be delivered */
	for (u32 w = 1; w <= SPI_WORDS; w++) {
		set_clear(D(GICD_ISENABLER + w * 4), D(GICD_ICENABLER + w * 4), ~0u);
		mmio_write32(D(GICD_ICFGR + w * 8), 0xaaaaaaaa);
		mmio_write32(D(GICD_ICFGR + w * 8 + 4), 0xaaaaaaaa);
		set_clear(D(GICD_ISPENDR + w * 4), D(GICD_ICPENDR + w * 4), ~0u);
		set_clear(D(GICD_ISACTIVER + w * 4), D(GICD_ICACTIVER + w * 4), ~0u);
		mmio_write32(D(GICD_ICFGR + w * 8), 0);
		mmio_write32(D(GICD_ICFGR + w * 8 + 4), 0);
		set_clear(D(GICD_ISPENDR + w * 4), D(GICD_ICPENDR + w * 4), ~0u); /* level-sensitive has the latch too */
	}
	/* Private interrupts, on the other vCPU's frame as well. The timers' own PPIs are left alone. */
	for (u32 cpu = 0; cpu < 2; cpu++) {
		set_clear(R(cpu, GICR_ISENABLER0), R(cpu, GICR_ICENABLER0), 0xb7ff0000);
		set_clear(R(cpu, GICR_ISPENDR0), R(cpu, GICR_ICPENDR0), 0xb7ff0000);
		set_clear(R(cpu, GICR_ISACTIVER0), R(cpu, GICR_ICACTIVER0), 0xb7ff0000);
		set_clear(R(cpu, GICR_ISACTIVER0), R(cpu, GICR_ICACTIVER0), 0x0000ffff);
	}
	mmio_write32(R(1, GICR_ISENABLER0), 1 << 20);
	GUEST_CHECK_EQ(mmio_read32(R(0, GICR_ISENABLER0)) >> 20 & 1, 0);
}
CASE(set_and_clear, guest_set_clear)

static void guest_groups(u64 arg)
{
	for (u32 w = 1; w <= SPI_WORDS; w++) {
		mmio_write32(D(GICD_IGROUPR + w * 4), 0x12345678);
		GUEST_CHECK_EQ(mmio_read32(D(GICD_IGROUPR + w * 4)), 0x12345678);
		mmio_write32(D(GICD_IGROUPR + w * 4), ~0u);
		GUEST_CHECK_EQ(mmio_read32(D(GICD_IGROUPR + w * 4)), ~0u);
		/* With one security state there are no group modifiers. */
		mmio_write32(D(GICD_IGRPMODR + w * 4), ~0u);
		GUEST_CHECK_EQ(mmio_read32(D(GICD_IGRPMODR + w * 4)), 0);
		mmio_write32(D(GICD_NSACR + w * 8), ~0u);
		GUEST_CHECK_EQ(mmio_read32(D(GICD_NSACR + w * 8)), 0);
	}
	mmio_write32(R(1, GICR_IGROUPR0), 0x0f0f0f0f);
	GUEST_CHECK_EQ(mmio_read32(R(1, GICR_IGROUPR0)), 0x0f0f0f0f);
	mmio_write32(R(1, GICR_IGRPMODR0), ~0u);
	GUEST_CHECK_EQ(mmio_read32(R(1, GICR_IGRPMODR0)), 0);
}
CASE(groups, guest_groups)

static void guest_priorities(u64 arg)
{
	for (u32 intid = 32; intid < 128; intid++) {
		mmio_write8(D(GICD_IPRIORITYR + intid), intid * 8);
		GUEST_CHECK_EQ(mmio_read8(D(GICD_IPRIORITYR + intid)), intid * 8 & 0xff);
	}
	/* By bytes and by words, the same register. */
	mmio_write32(D(GICD_IPRIORITYR + 64), 0xf8b87830);
	GUEST_CHECK_EQ(mmio_read8(D(GICD_IPRIORITYR + 64)), 0x30);
	GUEST_CHECK_EQ(mmio_read8(D(GICD_IPRIORITYR + 67)), 0xf8);
	mmio_write8(D(GICD_IPRIORITYR + 66), 0x10);
	GUEST_CHECK_EQ(mmio_read32(D(GICD_IPRIORITYR + 64)), 0xf8107830);
	/* At least four bits, at most eight: what is not implemented is the low end, and reads as zero. */
	mmio_write8(D(GICD_IPRIORITYR + 70), 0xff);
	GUEST_CHECK_EQ(mmio_read8(D(GICD_IPRIORITYR + 70)) & 0xf0, 0xf0);
	for (u32 intid = 0; intid < 32; intid++) {
		mmio_write8(R(1, GICR_IPRIORITYR0 + intid), intid * 8);
		GUEST_CHECK_EQ(mmio_read8(R(1, GICR_IPRIORITYR0 + intid)), intid * 8);
		GUEST_CHECK_EQ(mmio_read8(R(0, GICR_IPRIORITYR0 + intid)), 0);
	}
}
CASE(priorities, guest_priorities)

static void guest_configuration(u64 arg)
{
	for (u32 w = 2; w < 8; w++) {
		mmio_write32(D(GICD_ICFGR + w * 4), 0xffffffff);
		GUEST_CHECK_EQ(mmio_read32(D(GICD_ICFGR + w * 4)), 0xaaaaaaaa); /* the lower bit of each pair is reserved */
		mmio_write32(D(GICD_ICFGR + w * 4), 0x0a0a0a0a);
		GUEST_CHECK_EQ(mmio_read32(D(GICD_ICFGR + w * 4)), 0x0a0a0a0a);
		mmio_write32(D(GICD_ICFGR + w * 4), 0);
		GUEST_CHECK_EQ(mmio_read32(D(GICD_ICFGR + w * 4)), 0);
	}
	/* SGIs are edges, whatever is written. */
	GUEST_CHECK_EQ(mmio_read32(R(0, GICR_ICFGR0)), 0xaaaaaaaa);
	mmio_write32(R(0, GICR_ICFGR0), 0);
	GUEST_CHECK_EQ(mmio_read32(R(0, GICR_ICFGR0)), 0xaaaaaaaa);
}
CASE(configuration, guest_configuration)

static void guest_routing(u64 arg)
{
	for (u32 intid = 32; intid < 128; intid++) {
		u64 r = D(GICD_IROUTER + intid * 8);

		mmio_write64(r, intid & 1);
		GUEST_CHECK_EQ(mmio_read64(r), intid & 1);
	}
	/* By halves. An affinity that no vCPU has may be written, and is read back. */
	mmio_write64(D(GICD_IROUTER + 40 * 8), 0);
	mmio_write32(D(GICD_IROUTER + 40 * 8), 1);
	GUEST_CHECK_EQ(mmio_read64(D(GICD_IROUTER + 40 * 8)), 1);
	GUEST_CHECK_EQ(mmio_read32(D(GICD_IROUTER + 40 * 8 + 4)), 0);
	mmio_write64(D(GICD_IROUTER + 40 * 8), 0x0000000000030201);
	GUEST_CHECK_EQ(mmio_read64(D(GICD_IROUTER + 40 * 8)), 0x0000000000030201);
}
CASE(routing, guest_routing)

/* With affinity routing on, what belongs to the redistributors or to GICv2 reads as zero in the distributor. */
static void guest_reserved(u64 arg)
{
	static const u32 regs[] = {
		GICD_IGROUPR, GICD_ISENABLER, GICD_ICENABLER, GICD_ISPENDR, GICD_ICPENDR, GICD_ISACTIVER, GICD_ICACTIVER, GICD_IPRIORITYR,
		GICD_IPRIORITYR + 28, GICD_ITARGETSR + 32, GICD_ITARGETSR + 124, GICD_ICFGR, GICD_ICFGR + 4, GICD_SGIR, 0xf10, 0xf20,
		/* beyond 128 interrupts */
		GICD_IGROUPR + 16, GICD_ISENABLER + 16, GICD_ISPENDR + 124, GICD_ISACTIVER + 16, GICD_IPRIORITYR + 128, GICD_ICFGR + 32,
		/* nothing at all */
		0x0020, 0x0040, 0x0048, 0x0050, 0x0058, 0x0c80 - 4 + 0x80, 0x3000, 0x5ffc, 0x8000, 0xc000,
	};

	for (u32 i = 0; i < sizeof(regs) / sizeof(regs[0]); i++) {
		mmio_write32(D(regs[i]), ~0u);
		if (mmio_read32(D(regs[i])))
			GUEST_FAIL("a reserved distributor register: offset, value", regs[i], mmio_read32(D(regs[i])));
	}
	GUEST_CHECK_EQ(mmio_read64(D(GICD_IROUTER + 200 * 8)), 0);
	GUEST_CHECK_EQ(mmio_read32(R(0, 0x0c00)), 0);
	GUEST_CHECK_EQ(mmio_read32(R(0, GICR_SGI + 0x0f00)), 0);
	mmio_write32(R(0, 0x4000), ~0u);
	GUEST_CHECK_EQ(mmio_read32(R(0, 0x4000)), 0);
}
CASE(reserved, guest_reserved)

static void guest_redistributors(u64 arg)
{
	for (u64 cpu = 0; cpu < 2; cpu++) {
		u64 typer = mmio_read64(R(cpu, GICR_TYPER));

		GUEST_CHECK_EQ(typer >> 32, cpu); /* affinity */
		GUEST_CHECK_EQ(typer >> 8 & 0xffff, cpu); /* processor number */
		GUEST_CHECK_EQ(typer >> 4 & 1, cpu == 1); /* last */
		GUEST_CHECK_EQ(mmio_read32(R(cpu, GICR_TYPER)), (u32)typer);
		GUEST_CHECK_EQ(mmio_read32(R(cpu, GICR_TYPER + 4)), typer >> 32);
		GUEST_CHECK(mmio_read32(R(cpu, GICR_IIDR)) != 0);
		mmio_write32(R(cpu, GICR_WAKER), 0);
		GUEST_CHECK_EQ(mmio_read32(R(cpu, GICR_WAKER)) & 4, 0); /* children awake */
		GUEST_CHECK_EQ(mmio_read32(R(cpu, GICR_CTLR)) & (1u << 31 | 1u << 3), 0);
	}
}
CASE(redistributors, guest_redistributors)

static void guest_cpu_interface(u64 arg)
{
	u64 ctlr, bpr;

	GUEST_CHECK_EQ(read_sysreg(ICC_SRE_EL1) & 1, 1);
	write_sysreg(0, ICC_SRE_EL1);
	isb();
	GUEST_CHECK_EQ(read_sysreg(ICC_SRE_EL1) & 1, 1); /* there is no other interface */
	write_sysreg(0xf0, ICC_PMR_EL1);
	GUEST_CHECK_EQ(read_sysreg(ICC_PMR_EL1), 0xf0);
	write_sysreg(0xff, ICC_PMR_EL1);
	GUEST_CHECK_EQ(read_sysreg(ICC_PMR_EL1) & 0xf0, 0xf0);
	write_sysreg(0, ICC_PMR_EL1);
	GUEST_CHECK_EQ(read_sysreg(ICC_PMR_EL1), 0);

	ctlr = read_sysreg(ICC_CTLR_EL1);
	GUEST_CHECK((ctlr >> 8 & 7) >= 3); /* priority bits, minus one */
	write_sysreg(2, ICC_CTLR_EL1);
	GUEST_CHECK_EQ(read_sysreg(ICC_CTLR_EL1) & 2, 2);
	write_sysreg(0, ICC_CTLR_EL1);
	GUEST_CHECK_EQ(read_sysreg(ICC_CTLR_EL1), ctlr & ~3UL);

	write_sysreg(7, ICC_BPR1_EL1);
	GUEST_CHECK_EQ(read_sysreg(ICC_BPR1_EL1), 7);
	write_sysreg(0, ICC_BPR1_EL1);
	bpr = read_sysreg(ICC_BPR1_EL1); /* the smallest there is */
	GUEST_CHECK(bpr >= 1 && bpr <= 4);
	write_sysreg(0, ICC_BPR0_EL1);
	GUEST_CHECK_EQ(read_sysreg(ICC_BPR0_EL1), bpr - 1);

	/* Nothing there. */
	GUEST_CHECK_EQ(read_sysreg(ICC_RPR_EL1), 0xff);
	GUEST_CHECK_EQ(read_sysreg(ICC_HPPIR1_EL1), GIC_SPURIOUS);
	GUEST_CHECK_EQ(read_sysreg(ICC_IAR1_EL1), GIC_SPURIOUS);
	GUEST_CHECK_EQ(read_sysreg(ICC_IAR0_EL1), GIC_SPURIOUS);
	GUEST_CHECK_EQ(read_sysreg(ICC_AP1R0_EL1), 0);
	write_sysreg(GIC_SPURIOUS, ICC_EOIR1_EL1); /* ignored */
	GUEST_CHECK_EQ(read_sysreg(ICC_AP0R0_EL1), 0);
}
CASE(cpu_interface, guest_cpu_interface)

static bool on_kvm;

static void guest_group_enables(u64 arg)
{
	write_sysreg(1, ICC_IGRPEN1_EL1);
	GUEST_CHECK_EQ(read_sysreg(ICC_IGRPEN1_EL1), 1);
	write_sysreg(0, ICC_IGRPEN1_EL1);
	GUEST_CHECK_EQ(read_sysreg(ICC_IGRPEN1_EL1), 0);
	if (on_kvm)
		return; /* KVM 7.2 does not come back from the next: an endless maintenance interrupt */
	write_sysreg(1, ICC_IGRPEN0_EL1);
	GUEST_CHECK_EQ(read_sysreg(ICC_IGRPEN0_EL1), 1);
	write_sysreg(0, ICC_IGRPEN0_EL1);
	GUEST_CHECK_EQ(read_sysreg(ICC_IGRPEN0_EL1), 0);
}

TEST(group_enables)
{
	struct vm *vm = vm_create(.main = guest_group_enables, .gic = true);

	VM_GLOBAL(vm, on_kvm) = ktap_on_kvm();
	vcpu_done(&vm->vcpus[0]);
}

/* What userspace reads through the device is what the guest wrote. */
static void guest_writes(u64 arg)
{
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(SPI(5));
	gic_priority(SPI(5), 0x48);
	gic_route(SPI(5), 1);
	gic_edge(SPI(5), true);
	write_sysreg(0xc0, ICC_PMR_EL1);
	isb();
	GUEST_SYNC(1);
	GUEST_CHECK_EQ(mmio_read32(D(GICD_ISENABLER + 8)), 0xf00);
	GUEST_CHECK_EQ(read_sysreg(ICC_PMR_EL1), 0x80);
}

TEST(userspace_view)
{
	struct vm *vm = vm_create(.main = guest_writes, .gic = true, .vcpus = 2);
	u64 wide = 0;
	u32 v = 0;

	vcpu_sync(&vm->vcpus[0], 1);
	CHECK_OK(attr_get(vm->gic, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, GICD_ISENABLER + 4, &v));
	CHECK_EQ(v, 1 << 5);
	CHECK_OK(attr_get(vm->gic, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, GICD_IPRIORITYR + 36, &v));
	CHECK_EQ(v >> 8 & 0xff, 0x48);
	CHECK_OK(attr_get(vm->gic, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, GICD_IROUTER + 37 * 8, &v));
	CHECK_EQ(v, 1);
	CHECK_OK(attr_get(vm->gic, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, GICD_ICFGR + 8, &v));
	CHECK_EQ(v >> 10 & 3, 2);
	CHECK_OK(attr_get(vm->gic, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, 0xc230, &wide));
	CHECK_EQ(wide, 0xc0);
	CHECK_OK(attr_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, GICD_ISENABLER + 8, &(u32){ 0xf00 }));
	CHECK_OK(attr_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, 0xc230, &(u64){ 0x80 }));
	vcpu_done(&vm->vcpus[0]);
}
