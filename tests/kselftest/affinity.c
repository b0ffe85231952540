// SPDX-License-Identifier: GPL-2.0
/* Userspace gives vCPUs other affinities (MPIDR_EL1), when the interrupt controller is there already: all of it follows. */
#include "abi.h"
#include "gic.h"
#include "psci.h"
#include "vm.h"

#define VCPUS 4
#define MPIDR ARM64_SYS_REG(3, 0, 0, 0, 5)
#define REDIST_REGS KVM_DEV_ARM_VGIC_GRP_REDIST_REGS

/* Aff2, Aff1, Aff0: in different clusters, and one with the usual affinity of another. */
static const u64 affinities[VCPUS] = { 0x020103, 0x020104, 0x050003, 0x000001 };
/* And another time. */
static const u64 others[VCPUS] = { 0x000002, 0x070706, 0x020103, 0x010000 };

static u64 given[VCPUS], count[VCPUS][64], ready, over;

static void on_irq(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid >= 64)
		return;
	gic_eoi(intid);
	atomic_inc(&count[guest_self()->index][intid]);
}

static void send(u64 affinity, u32 sgi)
{
	dsb(ishst);
	write_sysreg((affinity & 0xff0000) << 16 | (affinity & 0xff00) << 8 | (u64)sgi << 24 | 1UL << (affinity & 0xf), ICC_SGI1R_EL1);
	isb();
}

static u64 all_of(u32 intid)
{
	u64 n = 0;

	for (u32 i = 0; i < VCPUS; i++)
		n += load_acquire(&count[i][intid]);
	return n;
}

static void wait_count(u64 cpu, u32 intid, u64 n)
{
	while (load_acquire(&count[cpu][intid]) < n)
		;
	guest_delay_us(200);
}

/* Each vCPU is reached by what it has been given, and by nothing else. */
static void check_all(void)
{
	for (u32 i = 0; i < VCPUS; i++) {
		u64 spi = SPI(i), before = all_of(3), mine = count[i][3], routed = all_of(spi);

		send(given[i], 3);
		wait_count(i, 3, mine + 1);
		GUEST_CHECK_EQ(all_of(3), before + 1);
		gic_edge(spi, true);
		gic_route(spi, given[i]);
		gic_enable(spi);
		GUEST_CHECK_EQ(mmio_read64(GUEST_GICD + GICD_IROUTER + spi * 8), given[i]);
		gic_set_pending(spi, true);
		wait_count(i, spi, routed + 1);
		GUEST_CHECK_EQ(all_of(spi), routed + 1);
		GUEST_CHECK_EQ(psci(PSCI_AFFINITY_INFO, given[i], 0, 0), 0);
	}
	for (u32 i = 0; i < 16; i++) {
		u64 before = all_of(4);
		bool somebody = false;

		for (u32 j = 0; j < VCPUS; j++)
			somebody |= given[j] == i;
		send(i, 4);
		if (somebody)
			while (all_of(4) == before)
				;
		guest_delay_us(200);
		GUEST_CHECK_EQ(all_of(4), before + somebody);
		if (!somebody)
			GUEST_CHECK_EQ(psci(PSCI_AFFINITY_INFO, i, 0, 0), PSCI_INVALID_PARAMETERS);
	}
	/* All but the sender. */
	for (u32 i = 1; i < VCPUS; i++)
		count[i][5] = 0;
	gic_sgi_others(5);
	for (u32 i = 1; i < VCPUS; i++)
		wait_count(i, 5, 1);
	GUEST_CHECK_EQ(count[0][5], 0);
}

static void guest_affinities(u64 cpu)
{
	u64 typer;

	if (cpu == 0) {
		guest_irq_handler = on_irq;
		gic_init_distributor();
	}
	gic_init_cpu();
	for (u32 i = 3; i < 6; i++)
		gic_enable(i);
	irq_enable();
	for (;;) {
		GUEST_CHECK_EQ(read_sysreg(mpidr_el1) & 0xff00ffffff, given[cpu]);
		typer = mmio_read64(gic_redist() + GICR_TYPER);
		GUEST_CHECK_EQ(typer >> 32, given[cpu]);
		GUEST_CHECK_EQ(typer >> 4 & 1, cpu == VCPUS - 1);
		atomic_inc(&ready);
		while (load_acquire(&ready) % VCPUS)
			;
		if (cpu == 0) {
			check_all();
			store_release(&over, over + 1);
		}
		for (u64 round = (load_acquire(&ready) - 1) / VCPUS; load_acquire(&over) <= round;)
			;
		GUEST_SYNC(1);
	}
}

static void give(struct vm *vm, const u64 *affinity)
{
	for (u32 i = 0; i < VCPUS; i++) {
		reg_set(&vm->vcpus[i], MPIDR, 1UL << 31 | affinity[i]);
		CHECK_EQ(reg_get(&vm->vcpus[i], MPIDR), 1UL << 31 | affinity[i]);
		VM_GLOBAL(vm, given[i]) = affinity[i];
	}
}

static void *one_sync(void *arg)
{
	vcpu_sync(arg, 1);
	return NULL;
}

static void run_all(struct vm *vm)
{
	pthread_t threads[VCPUS];

	for (u32 i = 0; i < VCPUS; i++)
		CHECK(pthread_create(&threads[i], NULL, one_sync, &vm->vcpus[i]) == 0);
	for (u32 i = 0; i < VCPUS; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

TEST(before_the_first_run)
{
	struct vm *vm = vm_create(.main = guest_affinities, .gic = true, .vcpus = VCPUS);

	give(vm, affinities);
	run_all(vm);
}

TEST(between_runs)
{
	struct vm *vm = vm_create(.main = guest_affinities, .gic = true, .vcpus = VCPUS);

	for (u32 i = 0; i < VCPUS; i++)
		VM_GLOBAL(vm, given[i]) = i;
	run_all(vm);
	give(vm, affinities);
	run_all(vm);
	give(vm, others);
	run_all(vm);
}

/* Whether the controller comes after the affinities makes no difference. */
TEST(before_the_controller)
{
	struct vm *vm = vm_create(.main = guest_affinities, .vcpus = VCPUS);

	give(vm, affinities);
	gic_create(vm);
	give(vm, others);
	gic_init(vm);
	run_all(vm);
}

/* Userspace names redistributors and CPU interfaces by affinity. */
TEST(device_attributes)
{
	struct vm *vm = vm_create(.main = guest_affinities, .gic = true, .vcpus = VCPUS);
	u32 v;

	give(vm, affinities);
	for (u32 i = 0; i < VCPUS; i++) {
		u64 at = affinities[i] << 32;

		/* Its own, not another one's: what each is told apart by is its number in the distributor. */
		EXPECT_OK(attr_get(vm->gic, REDIST_REGS, at | GICR_TYPER, &v));
		EXPECT_EQ(v >> 8 & 0xffff, i);
		EXPECT_OK(attr_get(vm->gic, REDIST_REGS, at | (GICR_TYPER + 4), &v));
		EXPECT_EQ(v, affinities[i]);
		EXPECT_OK(attr_set(vm->gic, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, at | 0xc230, &(u64){ 0x80 + i * 8 }));
	}
	for (u32 i = 0; i < VCPUS; i++) {
		u64 wide = 0;

		EXPECT_OK(attr_get(vm->gic, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, affinities[i] << 32 | 0xc230, &wide));
		EXPECT_EQ(wide, 0x80 + i * 8);
	}
	EXPECT_ERRNO(attr_get(vm->gic, REDIST_REGS, 0UL << 32 | GICR_TYPER, &v), EINVAL);
	EXPECT_ERRNO(attr_get(vm->gic, REDIST_REGS, 2UL << 32 | GICR_TYPER, &v), EINVAL);
}

/* An SPI that was routed before stays with its vCPU. */
static void guest_routed(u64 cpu)
{
	if (cpu == 0) {
		guest_irq_handler = on_irq;
		gic_init_distributor();
		gic_edge(SPI(1), true);
		gic_route(SPI(1), 1);
		gic_enable(SPI(1));
		gic_enable(SPI(2)); /* to where it goes out of reset: affinity 0, so vCPU 0 */
		gic_edge(SPI(2), true);
	}
	gic_init_cpu();
	GUEST_SYNC(1);
	irq_enable();
	if (cpu == 0) {
		gic_set_pending(SPI(1), true);
		gic_set_pending(SPI(2), true);
		wait_count(1, SPI(1), 1);
		wait_count(0, SPI(2), 1);
		store_release(&over, 1);
	}
	while (!load_acquire(&over))
		;
}

TEST(routes_stay)
{
	struct vm *vm = vm_create(.main = guest_routed, .gic = true, .vcpus = 2);

	for (u32 i = 0; i < 2; i++)
		vcpu_sync(&vm->vcpus[i], 1);
	for (u32 i = 0; i < 2; i++)
		reg_set(&vm->vcpus[i], MPIDR, 1UL << 31 | affinities[i]);
	vm_run_all(vm);
}

static struct guest_cpu *second;

static void guest_starts_another(u64 cpu)
{
	if (cpu == 0) {
		GUEST_CHECK_EQ(psci_cpu_on(1, second), PSCI_INVALID_PARAMETERS);
		GUEST_CHECK_EQ(psci(PSCI_AFFINITY_INFO, affinities[1], 0, 0), 1);
		GUEST_CHECK_EQ(psci_cpu_on(affinities[1], second), PSCI_SUCCESS);
		while (!load_acquire(&ready))
			;
	} else {
		GUEST_CHECK_EQ(read_sysreg(mpidr_el1) & 0xff00ffffff, affinities[1]);
		store_release(&ready, 1);
	}
}

/* And it keeps its affinity when it is started, which is a reset. */
TEST(cpu_on)
{
	struct vm *vm = vm_create(.main = guest_starts_another, .gic = true, .vcpus = 2, .secondaries_off = true);

	for (u32 i = 0; i < 2; i++)
		reg_set(&vm->vcpus[i], MPIDR, 1UL << 31 | affinities[i]);
	VM_GLOBAL(vm, second) = vm->vcpus[1].cpu;
	vm_run_all(vm);
}
