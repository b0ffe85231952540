// SPDX-License-Identifier: GPL-2.0
/*
 * What loft does about errata of CPUs, on CPUs without them: the module's parameter `errata` has it do so all the same. That the
 * workarounds help cannot be seen on an emulated CPU; that a guest gets on with them, and that they are applied, can.
 */
#include <stdio.h>
#include <sys/klog.h>
#include <sys/mman.h>

#include "abi.h"

/* The bits of `erratum` in rust/arch/cpu.rs. */
#define MMU_WRITES_TRAP 0x004
#define HIDDEN_HAFDBS 0x008
#define NO_CNTVOFF 0x010
#define CACHES_DIFFER 0x020
#define PAR_DEADLOCK 0x040
#define STEP_LOSES_PSTATE 0x100
#define ALL_BUT_NO_CNTVOFF 0x3ef

#define HANGS "loft: a guest's kernel that does not know this CPU's errata can hang the machine"

#define TCR_EL1 ARM64_SYS_REG(3, 0, 2, 0, 2)
#define CTR_EL0 ARM64_SYS_REG(3, 3, 0, 0, 1)
#define PAR_EL1 ARM64_SYS_REG(3, 0, 7, 4, 0)
#define TCR_HA_HD (3UL << 39)
#define TCR_TBI1 (1UL << 38)
#define ASID (1UL << 48)

static void load_with(u32 errata)
{
	char parameter[32];

	snprintf(parameter, sizeof(parameter), "errata=%#x", errata);
	CHECK(load_module(parameter));
}

/*
 * The kernel's log has this, and nothing else that looks like a complaint: then it is taken from there, since whoever runs the tests
 * takes each message of loft's for a failure.
 */
static void expect_message(const char *text)
{
	static char log[1 << 20];
	int n = CHECK_OK(klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, sizeof(log) - 1));
	bool logged = false, else_too = false;

	log[n] = 0;
	for (char *line = strtok(log, "\n"); line; line = strtok(NULL, "\n")) {
		if (strstr(line, text))
			logged = true;
		else if (line[0] == '<' && line[1] <= '4' && !strstr(line, "taints kernel") &&
			 (strstr(line, "BUG") || strstr(line, "WARN") || strstr(line, "loft")))
			else_too = true; /* <4> is a warning */
	}
	if (!logged)
		FAIL("the kernel's log has no '%s'", text);
	if (!else_too)
		CHECK_OK(klogctl(5 /* SYSLOG_ACTION_CLEAR */, NULL, 0));
}

/* Writes a register and reads it back. */
#define TURNS_INTO(reg, value, becomes)                 \
	do {                                            \
		write_sysreg(value, reg);               \
		isb();                                  \
		GUEST_CHECK_EQ(read_sysreg(reg), becomes); \
	} while (0)
#define KEEPS(reg, value) TURNS_INTO(reg, value, value)

/* Each register that HCR_EL2.TVM traps, with its caches and its MMU on. */
#define MMU_WRITES 14
static void guest_writes_mmu(u64 arg)
{
	u64 tcr = read_sysreg(tcr_el1), ttbr0 = read_sysreg(ttbr0_el1), mair = read_sysreg(mair_el1);

	GUEST_SYNC(1);
	write_sysreg(read_sysreg(sctlr_el1), sctlr_el1);
	KEEPS(ttbr0_el1, ttbr0 ^ ASID);
	KEEPS(ttbr0_el1, ttbr0);
	KEEPS(ttbr1_el1, 0x12345000);
	KEEPS(tcr_el1, tcr ^ TCR_TBI1);
	KEEPS(tcr_el1, tcr);
	KEEPS(mair_el1, mair ^ 0x44UL << 56);
	KEEPS(mair_el1, mair);
	KEEPS(esr_el1, 0x5600abcd);
	KEEPS(far_el1, 0xffff123456789abc);
	KEEPS(contextidr_el1, 0x87654321);
	/* Which bits these have is up to the CPU. */
	write_sysreg(0, afsr0_el1);
	write_sysreg(0, afsr1_el1);
	write_sysreg(0, amair_el1);
	GUEST_SYNC(2);
	__asm__ volatile("dsb sy; dc cisw, xzr; dsb sy; isb" : : : "memory");
	KEEPS(contextidr_el1, 1);
	KEEPS(contextidr_el1, 2);
	GUEST_SYNC(3);
	KEEPS(contextidr_el1, 3);
	KEEPS(contextidr_el1, 4);
	GUEST_SYNC(4);
}

TEST(mmu_writes_trap)
{
	struct vm *vm;
	u64 n;
	int stats;

	load_with(MMU_WRITES_TRAP);
	vm = vm_create(.main = guest_writes_mmu);
	stats = stats_of(vm->vcpus[0].fd);
	for (u64 step = 1; step <= 4; step++) {
		n = stats_counter(stats, "sysreg_exit_stat");
		vcpu_sync(&vm->vcpus[0], step);
		n = stats_counter(stats, "sysreg_exit_stat") - n;
		switch (step) {
		case 1: EXPECT(n >= 4); break; /* its MMU set up: MAIR, TCR, TTBR0, SCTLR */
		case 2: EXPECT_EQ(n, MMU_WRITES); break;
		case 3: EXPECT_EQ(n, 3); break; /* with one by set and way, after which the caches may be watched */
		case 4: EXPECT_EQ(n, 2); break; /* that they no longer are is no reason to stop trapping */
		}
	}
	vcpu_done(&vm->vcpus[0]);
}

static void guest_tcr(u64 arg)
{
	u64 tcr = read_sysreg(tcr_el1);

	GUEST_SYNC2(1, tcr);
	write_sysreg(tcr | TCR_HA_HD, tcr_el1);
	isb();
	GUEST_SYNC2(2, read_sysreg(tcr_el1));
	KEEPS(tcr_el1, tcr ^ TCR_TBI1);
	GUEST_SYNC(3);
	GUEST_CHECK_EQ(read_sysreg(tcr_el1), tcr);
}

/* Whether its CPU has fine-grained traps is not to be seen by a program; of QEMU's largest it is known. */
static bool has_fgt(void)
{
	FILE *f = fopen("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1", "r");
	unsigned long midr = 0;

	CHECK(f);
	CHECK_EQ(fscanf(f, "%lx", &midr), 1);
	fclose(f);
	return midr == 0x000f0510;
}

static void no_hidden_hafdbs(u32 errata, bool traps)
{
	struct vm *vm;
	struct vcpu *vcpu;
	u64 tcr;

	load_with(errata);
	vm = vm_create(.main = guest_tcr);
	vcpu = &vm->vcpus[0];
	tcr = vcpu_sync(vcpu, 1);
	if (traps)
		EXPECT_EQ(vcpu_sync(vcpu, 2), tcr);
	else
		vcpu_sync(vcpu, 2);
	vcpu_sync(vcpu, 3);
	reg_set(vcpu, TCR_EL1, tcr | TCR_HA_HD); /* nor does a VMM set them */
	EXPECT_EQ(reg_get(vcpu, TCR_EL1), tcr);
	vcpu_done(vcpu);
}

TEST(no_hidden_hafdbs)
{
	no_hidden_hafdbs(HIDDEN_HAFDBS, has_fgt());
}

TEST(no_hidden_hafdbs_where_all_traps)
{
	no_hidden_hafdbs(HIDDEN_HAFDBS | MMU_WRITES_TRAP, true);
}

static void guest_ctr(u64 arg)
{
	GUEST_SYNC(1);
	GUEST_SYNC2(2, read_sysreg(ctr_el0));
}

TEST(cache_types_differ)
{
	struct vm *vm;
	u64 n;
	int stats;

	load_with(CACHES_DIFFER);
	vm = vm_create(.main = guest_ctr);
	vcpu_sync(&vm->vcpus[0], 1);
	stats = stats_of(vm->vcpus[0].fd);
	n = stats_counter(stats, "sysreg_exit_stat");
	EXPECT_EQ(vcpu_sync(&vm->vcpus[0], 2), reg_get(&vm->vcpus[0], CTR_EL0));
	EXPECT_EQ(stats_counter(stats, "sysreg_exit_stat") - n, 1);
	vcpu_done(&vm->vcpus[0]);
}

static u64 page[512] __attribute__((aligned(4096)));

static void guest_translates(u64 arg)
{
	u64 par;

	WRITE_ONCE(page[0], 1);
	__asm__ volatile("at s1e1r, %1; isb; mrs %0, par_el1" : "=r"(par) : "r"(page) : "memory");
	GUEST_CHECK_EQ(par & 1, 0);
	GUEST_CHECK_EQ(par & 0xfffffffff000, (u64)page);
	GUEST_SYNC2(1, par);
	GUEST_CHECK_EQ(read_sysreg(par_el1), par);
	GUEST_SYNC(2);
	GUEST_CHECK_EQ(read_sysreg(par_el1), 0x5001); /* what userspace has made it */
}

TEST(par_between_barriers)
{
	struct vm *vm;
	struct vcpu *vcpu;
	u64 par;

	load_with(PAR_DEADLOCK);
	expect_message(HANGS);
	vm = vm_create(.main = guest_translates);
	vcpu = &vm->vcpus[0];
	pin_to_cpu(0);
	par = vcpu_sync(vcpu, 1);
	EXPECT_EQ(reg_get(vcpu, PAR_EL1), par);
	pin_to_cpu(1);
	vcpu_sync(vcpu, 2);
	reg_set(vcpu, PAR_EL1, 0x5001);
	vcpu_done(vcpu);
}

/* An instruction of pointer authentication, which this guest does not have: it is stepped, and traps. */
extern const char pac_here[];

static u64 undefined;

static void on_undefined(struct guest_regs *regs)
{
	undefined = regs->pstate;
	regs->pc += 4;
}

static void guest_signs(u64 arg)
{
	u64 flags;

	guest_sync_handlers[EC_UNKNOWN] = on_undefined;
	GUEST_SYNC(1);
	__asm__ volatile(".arch_extension pauth\n"
			 "	msr	spsr_el1, xzr\n" /* what a CPU with the erratum would have in SPSR_EL2 */
			 "	cmp	xzr, xzr\n"
			 ".global pac_here\n"
			 "pac_here: pacga x9, x9, x9\n"
			 "	mrs	%0, nzcv"
			 : "=r"(flags) : : "x9", "cc", "memory");
	GUEST_CHECK_EQ(flags >> 28, 6); /* Z and C, as the comparison has set them */
	GUEST_CHECK_EQ(undefined >> 28 & 0xf, 6);
	GUEST_CHECK_EQ(undefined & 0xf, 5); /* EL1h */
	GUEST_SYNC(2);
}

TEST(step_keeps_pstate)
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP };
	struct vm *vm;
	struct vcpu *vcpu;
	bool there = false;

	load_with(STEP_LOSES_PSTATE);
	vm = vm_create(.main = guest_signs);
	vcpu = &vm->vcpus[0];
	vcpu_sync(vcpu, 1);
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &debug));
	for (int i = 0; i < 100; i++) {
		CHECK_EQ(vcpu_run(vcpu), 0);
		CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_DEBUG);
		if (there)
			break; /* in its handler */
		there = reg_get(vcpu, CORE_REG(regs.pc)) == (u64)pac_here;
	}
	CHECK(there);
	debug.control = 0;
	CHECK_OK(ioctl(vcpu->fd, KVM_SET_GUEST_DEBUG, &debug));
	vcpu_sync(vcpu, 2);
	vcpu_done(vcpu);
}

/* Everything that can be had at once, with enough of what changes stage 2 and who is where. */
static void guest_works(u64 arg)
{
	guest_writes_mmu(arg);
	guest_translates(arg);
}

TEST(all_of_them)
{
	struct vm *vm;
	struct vcpu *vcpu;

	load_with(ALL_BUT_NO_CNTVOFF);
	expect_message(HANGS);
	vm = vm_create(.main = guest_works);
	vcpu = &vm->vcpus[0];
	for (u64 step = 1; step <= 4; step++) {
		pin_to_cpu(step % cpu_count());
		vcpu_sync(vcpu, step);
		CHECK_OK(madvise(vm_host(vm, (u64)page), 4096, MADV_DONTNEED));
	}
	vcpu_sync(vcpu, 1);
	vcpu_sync(vcpu, 2);
	reg_set(vcpu, PAR_EL1, 0x5001);
	vcpu_done(vcpu);
}

TEST(refused)
{
	EXPECT(!load_module("errata=0x10 2>/dev/null"));
	expect_message("loft: CNTVOFF_EL2 of these CPUs does not work");
}

static void guest_nothing(u64 arg)
{
}

/* For the programs after this one. */
TEST(without_any)
{
	CHECK(load_module(""));
	vcpu_done(&vm_create(.main = guest_nothing)->vcpus[0]);
}
