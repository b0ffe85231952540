// SPDX-License-Identifier: GPL-2.0
/* Accesses to what is not memory: width, sign extension, registers, and the forms that carry no syndrome. */
#include "gic.h"
#include "vm.h"

#define AT 0x0a000000UL

/* The host's side of one access: what it must be, and what a load gets. */
static void expect_read(struct vcpu *vcpu, u64 addr, u32 len, u64 answer)
{
	CHECK_EQ(vcpu_run(vcpu), 0);
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	CHECK_EQ(vcpu->run->mmio.is_write, 0);
	CHECK_EQ(vcpu->run->mmio.phys_addr, addr);
	CHECK_EQ(vcpu->run->mmio.len, len);
	memcpy(vcpu->run->mmio.data, &answer, 8);
}

static void expect_write(struct vcpu *vcpu, u64 addr, u32 len, u64 value)
{
	u64 got = 0;

	CHECK_EQ(vcpu_run(vcpu), 0);
	CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	CHECK_EQ(vcpu->run->mmio.is_write, 1);
	CHECK_EQ(vcpu->run->mmio.phys_addr, addr);
	CHECK_EQ(vcpu->run->mmio.len, len);
	memcpy(&got, vcpu->run->mmio.data, len);
	CHECK_EQ(got, value);
}

#define LOAD(insn, width)                                                                             \
	({                                                                                            \
		u64 v_ = 0x1122334455667788;                                                          \
		__asm__ volatile(insn " %" width "0, [%1]" : "+r"(v_) : "r"(AT + 8) : "memory");      \
		v_;                                                                                   \
	})

static void guest_loads(u64 arg)
{
	GUEST_CHECK_EQ(LOAD("ldrb", "w"), 0x87);
	GUEST_CHECK_EQ(LOAD("ldrh", "w"), 0x8765);
	GUEST_CHECK_EQ(LOAD("ldr", "w"), 0x87654321);
	GUEST_CHECK_EQ(LOAD("ldr", "x"), 0x8765432187654321);
	GUEST_CHECK_EQ(LOAD("ldrsb", "w"), 0xffffff87);
	GUEST_CHECK_EQ(LOAD("ldrsb", "x"), 0xffffffffffffff87);
	GUEST_CHECK_EQ(LOAD("ldrsh", "w"), 0xffff8765);
	GUEST_CHECK_EQ(LOAD("ldrsh", "x"), 0xffffffffffff8765);
	GUEST_CHECK_EQ(LOAD("ldrsw", "x"), 0xffffffff87654321);
	/* Positive values are not extended with ones. */
	GUEST_CHECK_EQ(LOAD("ldrsb", "x"), 0x7f);
	GUEST_CHECK_EQ(LOAD("ldrsw", "x"), 0x7fffffff);
	/* Acquire and unscaled forms are single-register accesses too. */
	GUEST_CHECK_EQ(LOAD("ldar", "w"), 0x12345678);
	__asm__ volatile("ldr wzr, [%0]" : : "r"(AT)); /* to nowhere */
}

TEST(loads)
{
	struct vm *vm = vm_create(.main = guest_loads);
	struct vcpu *vcpu = &vm->vcpus[0];
	const u64 junk = 0xffffffff00000000;

	/* The bytes beyond the access's length are junk on purpose. */
	expect_read(vcpu, AT + 8, 1, junk | 0xffffff87);
	expect_read(vcpu, AT + 8, 2, junk | 0xffff8765);
	expect_read(vcpu, AT + 8, 4, junk | 0x87654321);
	expect_read(vcpu, AT + 8, 8, 0x8765432187654321);
	expect_read(vcpu, AT + 8, 1, 0x87);
	expect_read(vcpu, AT + 8, 1, 0x87);
	expect_read(vcpu, AT + 8, 2, 0x8765);
	expect_read(vcpu, AT + 8, 2, 0x8765);
	expect_read(vcpu, AT + 8, 4, 0x87654321);
	expect_read(vcpu, AT + 8, 1, 0x7f);
	expect_read(vcpu, AT + 8, 4, 0x7fffffff);
	expect_read(vcpu, AT + 8, 4, 0x12345678);
	expect_read(vcpu, AT, 4, ~0UL);
	vcpu_done(vcpu);
}

#define STORE(insn, width, value) __asm__ volatile(insn " %" width "0, [%1]" : : "r"(value), "r"(AT + 16) : "memory")

static void guest_stores(u64 arg)
{
	u64 v = 0x8877665544332211;

	STORE("strb", "w", v);
	STORE("strh", "w", v);
	STORE("str", "w", v);
	STORE("str", "x", v);
	STORE("stlr", "w", v);
	__asm__ volatile("str xzr, [%0]" : : "r"(AT));
	__asm__ volatile("strb wzr, [%0, #3]" : : "r"(AT));
}

TEST(stores)
{
	struct vm *vm = vm_create(.main = guest_stores);
	struct vcpu *vcpu = &vm->vcpus[0];

	expect_write(vcpu, AT + 16, 1, 0x11);
	expect_write(vcpu, AT + 16, 2, 0x2211);
	expect_write(vcpu, AT + 16, 4, 0x44332211);
	expect_write(vcpu, AT + 16, 8, 0x8877665544332211);
	expect_write(vcpu, AT + 16, 4, 0x44332211);
	expect_write(vcpu, AT, 8, 0);
	expect_write(vcpu, AT + 3, 1, 0);
	vcpu_done(vcpu);
}

static u64 every[31];

/* Each register once as the source and once as the target (x30 and x29 too; x0 holds the address in turn). */
static void guest_every_register(u64 arg)
{
#define SOURCE(n) __asm__ volatile("mov x" #n ", #(0x100 + " #n ")\n\tstr x" #n ", [%0]" : : "r"(address) : "x" #n, "memory")
#define TARGET(n) __asm__ volatile("ldr x" #n ", [%1]\n\tmov %0, x" #n : "=r"(result) : "r"(address) : "x" #n, "memory"); every[n] = result
#define ALL(OP) OP(1); OP(2); OP(3); OP(4); OP(5); OP(6); OP(7); OP(8); OP(9); OP(10); OP(11); OP(12); OP(13); OP(14); OP(15); OP(16); OP(17); \
	OP(18); OP(19); OP(20); OP(21); OP(22); OP(23); OP(24); OP(25); OP(26); OP(27); OP(28); OP(30)
	register u64 address __asm__("x0") = AT;
	u64 result;

	ALL(SOURCE);
	ALL(TARGET);
	GUEST_SYNC(1);
}

TEST(every_register)
{
	struct vm *vm = vm_create(.main = guest_every_register);
	struct vcpu *vcpu = &vm->vcpus[0];

	for (u64 n = 1; n <= 30; n++)
		if (n != 29)
			expect_write(vcpu, AT, 8, 0x100 + n);
	for (u64 n = 1; n <= 30; n++)
		if (n != 29)
			expect_read(vcpu, AT, 8, 0x900 + n);
	vcpu_sync(vcpu, 1);
	for (u64 n = 1; n <= 30; n++)
		if (n != 29)
			CHECK_EQ(VM_GLOBAL(vm, every[n]), 0x900 + n);
}

static void guest_addresses(u64 arg)
{
	mmio_write32(0x0, 1);
	mmio_write32(0x3ffffffc, 2);
	mmio_write32(0x123456780, 3); /* above 4 GiB, and above the memory there is */
	mmio_write8(GUEST_RAM + VM_RAM_SIZE, 4); /* just past a slot */
	GUEST_CHECK_EQ(mmio_read8(GUEST_RAM + VM_RAM_SIZE + 0xfff), 5);
}

TEST(addresses)
{
	struct vm *vm = vm_create(.main = guest_addresses);
	struct vcpu *vcpu = &vm->vcpus[0];

	expect_write(vcpu, 0, 4, 1);
	expect_write(vcpu, 0x3ffffffc, 4, 2);
	expect_write(vcpu, 0x123456780, 4, 3);
	expect_write(vcpu, GUEST_RAM + VM_RAM_SIZE, 1, 4);
	expect_read(vcpu, GUEST_RAM + VM_RAM_SIZE + 0xfff, 1, 5);
	vcpu_done(vcpu);
}

static u64 pair_esr, pair_far;

/* Pairs, writeback and vectors have no valid syndrome: without KVM_CAP_ARM_NISV_TO_USER there is nobody to ask. */
static void guest_no_syndrome(u64 arg)
{
	u64 a = 1, b = 2, p = AT;

	GUEST_SYNC(1);
	__asm__ volatile("stp %0, %1, [%2]" : : "r"(a), "r"(b), "r"(p) : "memory");
	GUEST_SYNC(2);
	__asm__ volatile("ldr %0, [%1], #8" : "+r"(a), "+r"(p) : : "memory");
	GUEST_SYNC(3);
}

TEST(no_syndrome)
{
	struct vm *vm = vm_create(.main = guest_no_syndrome);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 pc;

	vcpu_sync(vcpu, 1);
	CHECK_EQ(vcpu_run(vcpu), -ENOSYS);
	/* Userspace may step over it. */
	pc = reg_get(vcpu, CORE_REG(regs.pc));
	CHECK_EQ(*(u32 *)vm_host(vm, pc) >> 22, 0xa9000000 >> 22); /* the STP */
	reg_set(vcpu, CORE_REG(regs.pc), pc + 4);
	vcpu_sync(vcpu, 2);
	CHECK_EQ(vcpu_run(vcpu), -ENOSYS);
}

TEST(no_syndrome_to_userspace)
{
	struct kvm_enable_cap enable = { .cap = KVM_CAP_ARM_NISV_TO_USER };
	struct vm *vm = vm_create(.main = guest_no_syndrome);
	struct vcpu *vcpu = &vm->vcpus[0];

	CHECK_OK(ioctl(vm->fd, KVM_ENABLE_CAP, &enable));
	vcpu_sync(vcpu, 1);
	for (u64 n = 2; n <= 3; n++) {
		CHECK_EQ(vcpu_run(vcpu), 0);
		CHECK_EQ(vcpu->run->exit_reason, KVM_EXIT_ARM_NISV);
		CHECK_EQ(vcpu->run->arm_nisv.fault_ipa & ~0xfffUL, AT);
		CHECK_EQ(vcpu->run->arm_nisv.esr_iss & ~0x17fUL, 0); /* CM, WnR and DFSC, and no more */
		CHECK_EQ(vcpu->run->arm_nisv.esr_iss >> 6 & 1, n == 2); /* WnR */
		CHECK_EQ(vcpu->run->arm_nisv.esr_iss & 0x3c, 0x04); /* a translation fault */
		reg_set(vcpu, CORE_REG(regs.pc), reg_get(vcpu, CORE_REG(regs.pc)) + 4);
		vcpu_sync(vcpu, n);
	}
}

/* Instructions can only come from memory: an external abort for the guest, nothing for userspace. */
static void guest_fetch(u64 arg)
{
	GUEST_SYNC(1);
	((void (*)(void))0x80000000)();
	GUEST_FAIL("went on after a fetch from nowhere", 0, 0);
}

static void on_fetch_abort(struct guest_regs *regs)
{
	pair_esr = regs->esr;
	pair_far = regs->far;
	regs->pc = regs->x[30];
	GUEST_CHECK_EQ(regs->far, 0x80000000);
	GUEST_CHECK_EQ(regs->esr & 0x3f, 0x10); /* synchronous external abort */
	GUEST_DONE();
}

TEST(fetch_from_nowhere)
{
	struct vm *vm = vm_create(.main = guest_fetch);

	VM_GLOBAL(vm, guest_sync_handlers[EC_IABT_CUR]) = on_fetch_abort;
	vcpu_sync(&vm->vcpus[0], 1);
	vcpu_done(&vm->vcpus[0]);
	CHECK_EQ(ESR_EC(VM_GLOBAL(vm, pair_esr)), EC_IABT_CUR);
}

/* Cache maintenance by address on what is not memory does nothing. */
static void guest_cache_maintenance(u64 arg)
{
	__asm__ volatile("dc civac, %0" : : "r"(0x80000000UL) : "memory");
	GUEST_SYNC(1);
	__asm__ volatile("dc cvac, %0" : : "r"(0x80000000UL) : "memory");
	GUEST_SYNC(2);
}

TEST(cache_maintenance)
{
	struct vm *vm = vm_create(.main = guest_cache_maintenance);

	vcpu_sync(&vm->vcpus[0], 1);
	vcpu_sync(&vm->vcpus[0], 2);
	vcpu_done(&vm->vcpus[0]);
}

/* Beyond the VM's guest physical addresses, though not beyond the CPU's. */
static void guest_beyond(u64 arg)
{
	u64 esr = GUEST_PROBE("ldr xzr, [%0]", : : "r"(1UL << 36) : "memory");

	GUEST_CHECK_EQ(ESR_EC(esr), EC_DABT_CUR);
	GUEST_CHECK_EQ(guest_self()->probe_far, 1UL << 36);
	GUEST_CHECK((esr & 0x3f) == 0x10 || (esr & 0x3c) == 0); /* external abort (KVM), or address size fault */
}

TEST(beyond_the_address_size)
{
	struct vm *vm = vm_create(.main = guest_beyond, .type = 36);

	vcpu_done(&vm->vcpus[0]);
}

/* The in-kernel interrupt controller is asked first; what is beside it goes to userspace. */
static void guest_in_kernel(u64 arg)
{
	u32 typer = mmio_read32(GUEST_GICD + GICD_TYPER);

	GUEST_CHECK_EQ(typer & 0x1f, 3);
	GUEST_CHECK_EQ(mmio_read8(GUEST_GICD + GICD_IPRIORITYR + 40), 0);
	mmio_write32(GUEST_GICD + 0x10000, 7);
	GUEST_CHECK_EQ(mmio_read32(GUEST_GICD - 4), 8);
}

TEST(in_kernel_device)
{
	struct vm *vm = vm_create(.main = guest_in_kernel, .gic = true);
	struct vcpu *vcpu = &vm->vcpus[0];

	expect_write(vcpu, GUEST_GICD + 0x10000, 4, 7);
	expect_read(vcpu, GUEST_GICD - 4, 4, 8);
	vcpu_done(vcpu);
}
