// SPDX-License-Identifier: GPL-2.0
/* PSCI and SMCCC: answers, CPU on and off with their races, and the system events. */
#include "psci.h"
#include "gic.h"
#include "pauth.h"
#include "timer.h"
#include "vm.h"

static struct guest_cpu *cpus[4];
static u64 arrived[4], go_off[4], round_number;

/* Gives the guest the addresses of its vCPUs' structures. */
static void share_cpus(struct vm *vm)
{
	for (u32 i = 0; i < vm->vcpu_count; i++)
		VM_GLOBAL(vm, cpus[i]) = vm->vcpus[i].cpu;
}

static void guest_answers(u64 arg)
{
	s64 v = psci(PSCI_GET_VERSION, 0, 0, 0);

	GUEST_CHECK(v >= 0x10001 && v < 0x20000);
	GUEST_CHECK_EQ(guest_hvc(0x80000000, 0, 0, 0).x0 >= 0x10001, 1);
	/* SMCCC_ARCH_FEATURES of a call that is none. */
	GUEST_CHECK_EQ((int32_t)guest_hvc(0x80000001, 0x8000ffff, 0, 0).x0, -1);
	/* Unknown function numbers in each range. */
	GUEST_CHECK_EQ((s64)guest_hvc(0x84000fff & ~0x1fU, 0, 0, 0).x0, PSCI_NOT_SUPPORTED);
	GUEST_CHECK_EQ((s64)guest_hvc(0xc600ff7f, 0, 0, 0).x0, PSCI_NOT_SUPPORTED);
	GUEST_CHECK_EQ((s64)guest_hvc(0, 0, 0, 0).x0, PSCI_NOT_SUPPORTED);
	GUEST_CHECK_EQ((s64)guest_hvc(~0UL, 0, 0, 0).x0, PSCI_NOT_SUPPORTED);

	GUEST_CHECK_EQ(psci(PSCI_FEATURES, PSCI_GET_VERSION, 0, 0), 0);
	GUEST_CHECK_EQ(psci(PSCI_FEATURES, PSCI_CPU_ON, 0, 0), 0);
	GUEST_CHECK_EQ(psci(PSCI_FEATURES, PSCI_CPU_OFF, 0, 0), 0);
	GUEST_CHECK_EQ(psci(PSCI_FEATURES, PSCI_CPU_SUSPEND, 0, 0), 0);
	GUEST_CHECK_EQ(psci(PSCI_FEATURES, PSCI_AFFINITY_INFO, 0, 0), 0);
	GUEST_CHECK_EQ(psci(PSCI_FEATURES, PSCI_SYSTEM_OFF, 0, 0), 0);
	GUEST_CHECK_EQ(psci(PSCI_FEATURES, PSCI_SYSTEM_RESET, 0, 0), 0);
	GUEST_CHECK_EQ(psci(PSCI_FEATURES, PSCI_SYSTEM_RESET2, 0, 0), 0);
	GUEST_CHECK_EQ(psci(PSCI_FEATURES, PSCI_FEATURES, 0, 0), 0);
	GUEST_CHECK_EQ(psci(PSCI_FEATURES, 0x80000000, 0, 0), 0); /* SMCCC_VERSION is found this way */
	GUEST_CHECK_EQ(psci(PSCI_FEATURES, PSCI_SYSTEM_SUSPEND, 0, 0), PSCI_NOT_SUPPORTED); /* not enabled by the VMM */
	GUEST_CHECK_EQ(psci(PSCI_FEATURES, 0x84000fe0, 0, 0), PSCI_NOT_SUPPORTED);
	GUEST_CHECK_EQ(psci(PSCI_MIGRATE_INFO_TYPE, 0, 0, 0), 2); /* no trusted OS to migrate */
}

TEST(answers)
{
	struct vm *vm = vm_create(.main = guest_answers);

	vcpu_done(&vm->vcpus[0]);
}

/* SMCCC: x4-x17 come back as they were, and results fill x0-x3 alone. */
static void guest_preserves(u64 arg)
{
	u64 out[31] = { 0 };

	__asm__ volatile("mov x17, %0\n\t"
			 "mov x4, #4\n\tmov x5, #5\n\tmov x6, #6\n\tmov x7, #7\n\tmov x8, #8\n\tmov x9, #9\n\tmov x10, #10\n\tmov x11, #11\n\t"
			 "mov x12, #12\n\tmov x13, #13\n\tmov x14, #14\n\tmov x15, #15\n\tmov x16, #16\n\tmov x18, #18\n\tmov x30, #30\n\t"
			 "mov w0, #0x80000000\n\thvc #0\n\t"
			 "stp x4, x5, [x17, #32]\n\tstp x6, x7, [x17, #48]\n\tstp x8, x9, [x17, #64]\n\tstp x10, x11, [x17, #80]\n\t"
			 "stp x12, x13, [x17, #96]\n\tstp x14, x15, [x17, #112]\n\tstr x16, [x17, #128]\n\tstr x18, [x17, #144]\n\tstr x30, [x17, #240]"
			 :
			 : "r"(out)
			 : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
			   "x18", "x30", "memory");
	for (u64 i = 4; i < 31; i++)
		if (i < 17 || i == 18 || i == 30)
			GUEST_CHECK_EQ(out[i], i);
}

TEST(registers_preserved)
{
	struct vm *vm = vm_create(.main = guest_preserves);

	vcpu_done(&vm->vcpus[0]);
}

/* SMC is a conduit to nobody: NOT_SUPPORTED, or an undefined instruction; the instruction after it is next in either case. */
static u64 smc_esr, smc_x0;

static void guest_smc(u64 arg)
{
	register u64 x0 __asm__("x0") = 0x80000000;

	smc_esr = GUEST_PROBE("smc #0", : "+r"(x0) : : "x1", "x2", "x3", "memory");
	smc_x0 = x0;
}

TEST(smc)
{
	struct vm *vm = vm_create(.main = guest_smc);

	vcpu_done(&vm->vcpus[0]);
	ktap_note("esr %#lx x0 %#lx", VM_GLOBAL(vm, smc_esr), VM_GLOBAL(vm, smc_x0));
	if (VM_GLOBAL(vm, smc_esr))
		CHECK_EQ(ESR_EC(VM_GLOBAL(vm, smc_esr)), EC_UNKNOWN);
	else
		CHECK(VM_GLOBAL(vm, smc_x0) == ~0UL || VM_GLOBAL(vm, smc_x0) >= 0x10001);
}

static void guest_trng(u64 arg)
{
	struct smccc_result r = guest_hvc(0x84000050, 0, 0, 0), s;

	GUEST_CHECK_EQ(r.x0 >> 16 & 0x7fff, 1); /* version 1.x */
	GUEST_CHECK_EQ(guest_hvc(0x84000051, 0xc4000053, 0, 0).x0, 0); /* TRNG_FEATURES(RND64) */
	r = guest_hvc(0xc4000053, 192, 0, 0);
	s = guest_hvc(0xc4000053, 192, 0, 0);
	if ((s64)r.x0 == -3 || (s64)s.x0 == -3)
		return; /* no entropy at the moment */
	GUEST_CHECK_EQ(r.x0, 0);
	GUEST_CHECK(r.x3 != s.x3 || r.x2 != s.x2);
	r = guest_hvc(0xc4000053, 5, 0, 0);
	GUEST_CHECK_EQ(r.x0, 0);
	GUEST_CHECK(r.x3 < 32 && r.x2 == 0 && r.x1 == 0);
	GUEST_CHECK_EQ((s64)guest_hvc(0xc4000053, 193, 0, 0).x0, -2);
	GUEST_CHECK_EQ((int32_t)guest_hvc(0x84000053, 97, 0, 0).x0, -2); /* the 32-bit call gives 96 bits at most */
}

TEST(trng)
{
	struct vm *vm = vm_create(.main = guest_trng);

	vcpu_done(&vm->vcpus[0]);
}

static void secondary(u64 index)
{
	GUEST_CHECK_EQ(read_sysreg(mpidr_el1) & 0xff, index);
	store_release(&arrived[index], READ_ONCE(round_number));
	while (!load_acquire(&go_off[index]))
		;
	store_release(&go_off[index], 0);
	psci(PSCI_CPU_OFF, 0, 0, 0);
	GUEST_FAIL("back from CPU_OFF", index, 0);
}

static void wait_off(u64 mpidr)
{
	while (psci(PSCI_AFFINITY_INFO, mpidr, 0, 0) != 1)
		;
}

static void guest_on_off(u64 index)
{
	if (index)
		secondary(index);
	GUEST_CHECK_EQ(psci(PSCI_AFFINITY_INFO, 0, 0, 0), 0); /* on: the caller */
	GUEST_CHECK_EQ(psci(PSCI_AFFINITY_INFO, 1, 0, 0), 1); /* off */
	GUEST_CHECK_EQ(psci(PSCI_AFFINITY_INFO, 99, 0, 0), PSCI_INVALID_PARAMETERS);
	GUEST_CHECK_EQ(psci(PSCI_AFFINITY_INFO, 0, 1, 0), 0); /* at level 1, the cluster is on */
	GUEST_CHECK_EQ(psci_cpu_on(99, cpus[1]), PSCI_INVALID_PARAMETERS);
	GUEST_CHECK_EQ(psci_cpu_on(0, cpus[0]), PSCI_ALREADY_ON);
	for (round_number = 1; round_number <= 8; round_number++) {
		for (u64 i = 1; i < 4; i++) {
			GUEST_CHECK_EQ(psci_cpu_on(i, cpus[i]), 0);
			GUEST_CHECK_EQ(psci_cpu_on(i, cpus[i]), PSCI_ALREADY_ON);
		}
		for (u64 i = 1; i < 4; i++)
			while (load_acquire(&arrived[i]) != round_number)
				;
		for (u64 i = 1; i < 4; i++) {
			GUEST_CHECK_EQ(psci(PSCI_AFFINITY_INFO, i, 0, 0), 0);
			store_release(&go_off[i], 1);
		}
		for (u64 i = 1; i < 4; i++)
			wait_off(i);
	}
}

TEST(on_and_off)
{
	struct vm *vm = vm_create(.main = guest_on_off, .vcpus = 4, .secondaries_off = true);

	share_cpus(vm);
	vcpu_start(&vm->vcpus[1]);
	vcpu_start(&vm->vcpus[2]);
	vcpu_start(&vm->vcpus[3]);
	vcpu_done(&vm->vcpus[0]); /* the others are off, their threads in KVM_RUN: the end of the case takes them */
}

/* Two vCPUs switch the same third one on at the same moment: exactly one succeeds. */
static u64 winners, losers, gate, finished;

static void guest_third(u64 index)
{
	atomic_inc(&arrived[2]);
	psci(PSCI_CPU_OFF, 0, 0, 0);
}

static void guest_racer(u64 index)
{
	for (u64 i = 1; i <= 40; i++) {
		s64 r;

		atomic_inc(&gate);
		while (load_acquire(&gate) < 2 * i)
			;
		r = psci_cpu_on(2, cpus[2]);
		if (r == 0)
			atomic_inc(&winners);
		else if (r == PSCI_ALREADY_ON || r == PSCI_ON_PENDING)
			atomic_inc(&losers);
		else
			GUEST_FAIL("CPU_ON: what, round", r, i);
		/* Before the next round it is off again. */
		wait_off(2);
		atomic_inc(&finished);
		while (load_acquire(&finished) < 2 * i)
			;
	}
}

TEST(race_on)
{
	struct vm *vm = vm_create(.main = guest_racer, .vcpus = 3);

	share_cpus(vm);
	((struct guest_cpu *)vm_host(vm, (u64)vm->vcpus[2].cpu))->entry = guest_third;
	CHECK_OK(ioctl(vm->vcpus[2].fd, KVM_SET_MP_STATE, &(struct kvm_mp_state){ KVM_MP_STATE_STOPPED }));
	vcpu_start(&vm->vcpus[2]);
	vcpu_start(&vm->vcpus[1]);
	vcpu_done(&vm->vcpus[0]);
	vcpu_join(&vm->vcpus[1]);
	/* A loser may have come so late that the third vCPU was off again: then it won a start of its own. */
	CHECK_EQ(VM_GLOBAL(vm, winners) + VM_GLOBAL(vm, losers), 80);
	CHECK(VM_GLOBAL(vm, winners) >= 40);
	CHECK_EQ(VM_GLOBAL(vm, arrived[2]), VM_GLOBAL(vm, winners));
}

/* What a vCPU looks like after CPU_ON: reset, with the context in x0. */
static u64 reset_state[4];
void psci_entry_probe(void);

__asm__(".pushsection .text\n"
	".global psci_entry_probe\n"
	"psci_entry_probe:\n"
	"	mrs	x1, sctlr_el1\n"
	"	mrs	x2, CurrentEL\n"
	"	mrs	x3, daif\n"
	"	stp	x1, x2, [x0]\n"
	"	stp	x3, x0, [x0, #16]\n"
	"	dsb	sy\n"
	"1:	wfi\n"
	"	b	1b\n"
	".popsection\n");

static void guest_reset_state(u64 index)
{
	volatile u64 *s = reset_state;

	if (index)
		GUEST_FAIL("a vCPU that is off ran", index, 0);
	GUEST_CHECK_EQ(psci(PSCI_CPU_ON, 1, (u64)psci_entry_probe, (u64)reset_state), 0);
	/* The other's stores are with its MMU off: not through the caches. */
	do
		__asm__ volatile("dc ivac, %0; dsb sy" : : "r"(reset_state) : "memory");
	while (!s[3]);
	GUEST_CHECK_EQ(s[0] & 0x1005, 0); /* MMU and caches off */
	GUEST_CHECK_EQ(s[1], 4);
	GUEST_CHECK_EQ(s[2], 0x3c0);
	GUEST_CHECK_EQ(s[3], (u64)reset_state);
}

TEST(state_after_on)
{
	struct vm *vm = vm_create(.main = guest_reset_state, .vcpus = 2, .secondaries_off = true);

	vcpu_start(&vm->vcpus[1]);
	vcpu_done(&vm->vcpus[0]);
}

/* CPU_ON starts with nothing of what the vCPU had before, not even what the architecture leaves open: the keys. */
static u64 keys_seen;
#define OR_KEY(reg, v) keys |= read_sysreg(reg)

static void guest_keys_after_on(u64 index)
{
	u64 keys = 0;

	if (index) {
		ALL_KEYS(OR_KEY, 0);
		keys_seen = keys;
		ALL_KEYS(WRITE_KEY, 0x1234567800000000);
		store_release(&arrived[1], 1);
		psci(PSCI_CPU_OFF, 0, 0, 0);
	}
	for (int i = 0; i < 2; i++) {
		GUEST_CHECK_EQ(psci_cpu_on(1, cpus[1]), 0);
		while (!load_acquire(&arrived[1]))
			;
		GUEST_CHECK_EQ(keys_seen, 0);
		store_release(&arrived[1], 0);
		wait_off(1);
	}
}

TEST(keys_after_on)
{
	struct vm *vm;

	if (cap(KVM_CAP_ARM_PTRAUTH_ADDRESS) <= 0)
		SKIP("no pointer authentication");
	vm = vm_create(.main = guest_keys_after_on, .vcpus = 2, .secondaries_off = true, .features = PTRAUTH);
	share_cpus(vm);
	vcpu_start(&vm->vcpus[1]);
	vcpu_done(&vm->vcpus[0]);
}

/* The last vCPU may go off too; then the machine stands still until the VMM does something. */
static void guest_off(u64 arg)
{
	psci(PSCI_CPU_OFF, 0, 0, 0);
	GUEST_SYNC(1);
}

TEST(off_and_restart_by_host)
{
	struct vm *vm = vm_create(.main = guest_off);
	struct vcpu *vcpu = &vm->vcpus[0];
	struct kvm_mp_state state;

	kick_after(200000);
	CHECK_EQ(vcpu_run(vcpu), -EINTR);
	CHECK_OK(ioctl(vcpu->fd, KVM_GET_MP_STATE, &state));
	CHECK_EQ(state.mp_state, KVM_MP_STATE_STOPPED);
	/* Made runnable it goes on where it was. */
	state.mp_state = KVM_MP_STATE_RUNNABLE;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_MP_STATE, &state));
	vcpu_sync(vcpu, 1);
}

static void guest_event(u64 call)
{
	switch (call) {
	case 0:
		psci(PSCI_SYSTEM_OFF, 0, 0, 0);
		break;
	case 1:
		psci(PSCI_SYSTEM_RESET, 0, 0, 0);
		break;
	case 2:
		psci(PSCI_SYSTEM_RESET2, 0, 0x1234, 0);
		break;
	}
	GUEST_FAIL("back from a system event", call, 0);
}

TEST(system_events)
{
	static const struct {
		u32 type;
		u64 flags;
	} wanted[] = {
		{ KVM_SYSTEM_EVENT_SHUTDOWN, 0 },
		{ KVM_SYSTEM_EVENT_RESET, 0 },
		{ KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_RESET_FLAG_PSCI_RESET2 },
	};

	for (u64 i = 0; i < ARRAY_SIZE(wanted); i++) {
		struct vm *vm = vm_create(.main = guest_event, .vcpus = 2, .secondaries_off = true);
		struct vcpu *vcpu = &vm->vcpus[0];
		struct kvm_mp_state state;

		((struct guest_cpu *)vm_host(vm, (u64)vcpu->cpu))->arg = i;
		CHECK_EQ(vcpu_run(vcpu), 0);
		CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_SYSTEM_EVENT);
		EXPECT_EQ(vcpu->run->system_event.type, wanted[i].type);
		EXPECT_EQ(vcpu->run->system_event.ndata, 1);
		EXPECT_EQ(vcpu->run->system_event.data[0], wanted[i].flags);
		/* All vCPUs stand still after it. */
		CHECK_OK(ioctl(vm->vcpus[1].fd, KVM_GET_MP_STATE, &state));
		EXPECT_EQ(state.mp_state, KVM_MP_STATE_STOPPED);
		CHECK_OK(ioctl(vcpu->fd, KVM_GET_MP_STATE, &state));
		EXPECT_EQ(state.mp_state, KVM_MP_STATE_STOPPED);
		/* The call's result, should the VMM just go on. */
		EXPECT_EQ(reg_get(vcpu, CORE_REG(regs.regs[0])), (u64)PSCI_INTERNAL_FAILURE);
		vm_destroy(vm);
	}
}

/* Another vCPU is running while the system goes off: it leaves guest mode and stops. */
static u64 spins;

static void guest_off_beside(u64 index)
{
	if (index)
		for (;;)
			WRITE_ONCE(spins, spins + 1);
	while (!READ_ONCE(spins))
		;
	psci(PSCI_SYSTEM_OFF, 0, 0, 0);
}

static void *run_quietly(void *arg)
{
	while (vcpu_run(arg) == -EINTR)
		;
	return NULL;
}

TEST(system_off_stops_the_others)
{
	struct vm *vm = vm_create(.main = guest_off_beside, .vcpus = 2);
	pthread_t thread;
	u64 before;

	CHECK(pthread_create(&thread, NULL, run_quietly, &vm->vcpus[1]) == 0);
	CHECK_EQ(vcpu_run(&vm->vcpus[0]), 0);
	CHECK_EQ(vm->vcpus[0].run->exit_reason, KVM_EXIT_SYSTEM_EVENT);
	sleep_us(50000);
	before = VM_GLOBAL(vm, spins);
	sleep_us(100000);
	EXPECT_EQ(VM_GLOBAL(vm, spins), before);
}

/* CPU_SUSPEND is a WFI: an interrupt ends it. */
static u64 woken;

static void on_wake(struct guest_regs *regs)
{
	u32 intid = gic_ack();

	if (intid == GIC_SPURIOUS)
		return;
	timer_set_ctl(TIMER_VIRTUAL, 0);
	gic_eoi(intid);
	woken++;
}

static void guest_suspend(u64 arg)
{
	guest_irq_handler = on_wake;
	gic_init_distributor();
	gic_init_cpu();
	gic_enable(PPI_VTIMER);
	timer_set_cval(TIMER_VIRTUAL, timer_counter(TIMER_VIRTUAL) + guest_us(5000));
	timer_set_ctl(TIMER_VIRTUAL, TIMER_ENABLE);
	while (!(timer_ctl(TIMER_VIRTUAL) & TIMER_ISTATUS))
		GUEST_CHECK_EQ(psci(PSCI_CPU_SUSPEND, 0, (u64)guest_boot, 0), 0);
	irq_enable();
	isb();
	GUEST_CHECK_EQ(woken, 1);
}

TEST(suspend)
{
	struct vm *vm = vm_create(.main = guest_suspend, .gic = true);

	vcpu_done(&vm->vcpus[0]);
}

/* A filter of calls (KVM_ARM_VM_SMCCC_FILTER) has as many ranges as userspace wants. */
#define FILTERED 0xc6000000U
#define RANGES 10000

static const u32 some_ranges[] = { 0, 31, 32, 33, RANGES / 2, RANGES - 1 };

static void guest_filtered(u64 arg)
{
	for (size_t i = 0; i < ARRAY_SIZE(some_ranges); i++) {
		u64 function = FILTERED + 2 * some_ranges[i];

		GUEST_CHECK_EQ(guest_hvc(function, 0, 0, 0).x0, some_ranges[i] & 1 ? (u64)PSCI_NOT_SUPPORTED : function + 7);
		GUEST_CHECK_EQ((s64)guest_hvc(function + 1, 0, 0, 0).x0, PSCI_NOT_SUPPORTED); /* between two ranges */
	}
}

static long filter_range(struct vm *vm, u32 base, u32 count, u8 action)
{
	struct kvm_smccc_filter range = { .base = base, .nr_functions = count, .action = action };

	return attr_set(vm->fd, KVM_ARM_VM_SMCCC_CTRL, KVM_ARM_VM_SMCCC_FILTER, &range);
}

TEST(many_filtered_ranges)
{
	struct vm *vm = vm_create(.main = guest_filtered);
	struct vcpu *vcpu = &vm->vcpus[0];

	for (u32 i = 0; i < RANGES; i++) {
		u32 n = i * 7919 % RANGES; /* each once, all over the place */

		CHECK_OK(filter_range(vm, FILTERED + 2 * n, 1, n & 1 ? KVM_SMCCC_FILTER_DENY : KVM_SMCCC_FILTER_FWD_TO_USER));
	}
	EXPECT_ERRNO(filter_range(vm, FILTERED + 2 * 32, 1, KVM_SMCCC_FILTER_DENY), EEXIST);
	EXPECT_ERRNO(filter_range(vm, FILTERED + 2 * 32 + 1, 2, KVM_SMCCC_FILTER_DENY), EEXIST);
	EXPECT_ERRNO(filter_range(vm, FILTERED - 1, 2 * RANGES + 2, KVM_SMCCC_FILTER_DENY), EEXIST);
	for (size_t i = 0; i < ARRAY_SIZE(some_ranges); i++) {
		if (some_ranges[i] & 1)
			continue;
		CHECK_EQ(vcpu_run(vcpu), 0);
		CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_HYPERCALL);
		CHECK_EQ(vcpu->run->hypercall.nr, FILTERED + 2 * some_ranges[i]);
		reg_set(vcpu, CORE_REG(regs.regs[0]), vcpu->run->hypercall.nr + 7);
	}
	vcpu_done(vcpu);
	EXPECT_ERRNO(filter_range(vm, 1, 1, KVM_SMCCC_FILTER_DENY), EBUSY);
}
