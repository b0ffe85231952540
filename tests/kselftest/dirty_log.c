// SPDX-License-Identifier: GPL-2.0
/* KVM_MEM_LOG_DIRTY_PAGES and KVM_GET_DIRTY_LOG: which pages of a slot the guest has written. */
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi.h"
#include "vm.h"

#define AREA 0x80000000UL
#define PAGE 4096UL
#define MIB2 0x200000UL
#define PAGES (MIB2 / PAGE)
#define WORDS (PAGES / 64)

/* Stores to the pages whose bits the host has set, loads from the others, over and over. */
static u64 wanted[WORDS];

static void guest_write_wanted(u64 arg)
{
	for (u64 value = 1;; value++) {
		GUEST_SYNC(1);
		for (u64 n = 0; n < PAGES; n++) {
			volatile u64 *at = (u64 *)(AREA + n * PAGE);

			if (wanted[n / 64] >> (n % 64) & 1)
				*at = value;
			else
				(void)*at;
		}
		dsb(ish);
	}
}

static void want(struct vm *vm, const u64 *bits)
{
	for (u32 i = 0; i < WORDS; i++)
		VM_GLOBAL(vm, wanted)[i] = bits[i];
}

static const u64 all[WORDS] = { [0 ... WORDS - 1] = ~0UL };

static int get_log(struct vm *vm, u32 slot, u64 *bitmap)
{
	struct kvm_dirty_log log = { .slot = slot, .dirty_bitmap = bitmap };

	return ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log);
}

/* The guest writes the pages of `bits`; the log must say just that, and nothing the second time. */
static void write_and_check(struct vm *vm, const u64 *bits)
{
	u64 bitmap[WORDS];

	want(vm, bits);
	vcpu_sync(&vm->vcpus[0], 1);
	memset(bitmap, 0xff, sizeof(bitmap));
	CHECK_OK(get_log(vm, 1, bitmap));
	for (u32 i = 0; i < WORDS; i++)
		CHECK_EQ(bitmap[i], bits[i]);
	CHECK_OK(get_log(vm, 1, bitmap));
	for (u32 i = 0; i < WORDS; i++)
		CHECK_EQ(bitmap[i], 0);
}

static const u64 patterns[][WORDS] = {
	{ 1 },
	{ 0, 0xff00ff00ff00ff00, 0, 0x8000000000000001 },
	{ [0 ... WORDS - 1] = ~0UL },
	{ 0 },
	{ [WORDS - 1] = 1UL << 63 },
};

static void check_patterns(struct vm *vm)
{
	for (u32 i = 0; i < ARRAY_SIZE(patterns); i++)
		write_and_check(vm, patterns[i]);
}

TEST(written_pages_and_no_others)
{
	struct vm *vm = vm_create(.main = guest_write_wanted);

	CHECK_OK(vm_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, AREA, MIB2, host_alloc(MIB2, MIB2)));
	vcpu_sync(&vm->vcpus[0], 1);
	check_patterns(vm);
}

/* The guest has the memory already, writable and perhaps as one block, when logging begins; and again when it begins anew. */
TEST(begins_and_ends_while_mapped)
{
	struct vm *vm = vm_create(.main = guest_write_wanted);
	void *area = host_alloc(MIB2, MIB2);
	u64 bitmap[WORDS];

	madvise(area, MIB2, MADV_HUGEPAGE);
	memset(area, 0, MIB2);
	CHECK_OK(vm_slot(vm, 1, 0, AREA, MIB2, area));
	want(vm, all);
	vcpu_sync(&vm->vcpus[0], 1);
	for (int round = 0; round < 3; round++) {
		vcpu_sync(&vm->vcpus[0], 1); /* all of it is written, unlogged */
		CHECK_OK(vm_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, AREA, MIB2, area));
		CHECK_OK(get_log(vm, 1, bitmap));
		for (u32 i = 0; i < WORDS; i++)
			CHECK_EQ(bitmap[i], 0);
		check_patterns(vm);
		CHECK_OK(vm_slot(vm, 1, 0, AREA, MIB2, area));
		EXPECT_ERRNO(get_log(vm, 1, bitmap), ENOENT);
		want(vm, all);
	}
}

/*
 * What was one block of the guest's before its pages were logged is one afterwards, also where its pages are writable when the
 * log goes (`collected` is false), so that none of them would fault again.
 */
static void block_comes_back(bool collected)
{
	struct vm *vm = vm_create(.main = guest_write_wanted);
	struct vcpu *vcpu = &vm->vcpus[0];
	u8 *area = host_alloc(MIB2, MIB2);
	u64 exits, faults = 0, bitmap[WORDS];
	int stats = stats_of(vcpu->fd);

	madvise(area, MIB2, MADV_HUGEPAGE);
	memset(area, 0, MIB2);
	if (madvise(area, MIB2, MADV_COLLAPSE))
		SKIP("no transparent huge pages");
	CHECK_OK(vm_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, AREA, MIB2, area));
	want(vm, all);
	vcpu_sync(vcpu, 1);
	exits = stats_counter(stats, "exits");
	vcpu_sync(vcpu, 1);
	CHECK(stats_counter(stats, "exits") - exits >= PAGES); /* page by page */
	if (collected)
		CHECK_OK(get_log(vm, 1, bitmap));
	CHECK_OK(vm_slot(vm, 1, 0, AREA, MIB2, area));
	exits = stats_counter(stats, "exits");
	if (!ktap_on_kvm())
		faults = stats_counter(stats, "stage2_faults");
	vcpu_sync(vcpu, 1);
	exits = stats_counter(stats, "exits") - exits;
	ktap_note("%lu exits", exits);
	CHECK(exits < PAGES / 2);
	if (!ktap_on_kvm())
		CHECK(stats_counter(stats, "stage2_faults") - faults <= 4); /* the host may move a page meanwhile */
}

TEST(block_comes_back)
{
	block_comes_back(true);
}

TEST(block_comes_back_to_writable_pages)
{
	block_comes_back(false);
}

/* The host takes pages away and the guest gets new ones: read ones are not written ones. */
TEST(after_discard)
{
	struct vm *vm = vm_create(.main = guest_write_wanted);
	void *area = host_alloc(MIB2, MIB2);

	CHECK_OK(vm_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, AREA, MIB2, area));
	vcpu_sync(&vm->vcpus[0], 1);
	for (u32 i = 0; i < ARRAY_SIZE(patterns); i++) {
		CHECK_OK(madvise(area, MIB2, MADV_DONTNEED));
		write_and_check(vm, patterns[i]);
	}
}

TEST(errors)
{
	struct vm *vm = vm_create(.main = guest_write_wanted);
	u64 bitmap[WORDS], bits[WORDS] = { 0x11, 0x22 };

	EXPECT_ERRNO(get_log(vm, 1, bitmap), ENOENT); /* no such slot */
	EXPECT_ERRNO(get_log(vm, 0, bitmap), ENOENT); /* it does not log */
	EXPECT_ERRNO(get_log(vm, 0x10001, bitmap), EINVAL);
	EXPECT_ERRNO(get_log(vm, 0xffff, bitmap), EINVAL);
	CHECK_OK(vm_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, AREA, MIB2, host_alloc(MIB2, MIB2)));
	vcpu_sync(&vm->vcpus[0], 1);
	want(vm, bits);
	vcpu_sync(&vm->vcpus[0], 1);
	EXPECT_ERRNO(get_log(vm, 1, BAD_POINTER), EFAULT);
	if (ktap_on_kvm())
		return; /* which forgets them */
	/* What could not be told is told the next time. */
	CHECK_OK(get_log(vm, 1, bitmap));
	for (u32 i = 0; i < WORDS; i++)
		CHECK_EQ(bitmap[i], bits[i]);
}

static int clear_log(struct vm *vm, u32 slot, u64 first, u32 pages, const u64 *bitmap)
{
	struct kvm_clear_dirty_log log = { .slot = slot, .first_page = first, .num_pages = pages, .dirty_bitmap = (void *)bitmap };

	return ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &log);
}

static int manual(struct vm *vm, u64 options, u32 flags)
{
	struct kvm_enable_cap enable = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { options }, .flags = flags };

	return ioctl(vm->fd, KVM_ENABLE_CAP, &enable);
}

static void check_log(struct vm *vm, const u64 *bits)
{
	u64 bitmap[WORDS];

	CHECK_OK(get_log(vm, 1, bitmap));
	for (u32 i = 0; i < WORDS; i++)
		CHECK_EQ(bitmap[i], bits[i]);
}

/* What is read stays; what is cleared, and only that, is logged when it is written again. */
TEST(cleared_by_hand)
{
	struct vm *vm = vm_create(.main = guest_write_wanted);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 expected[WORDS] = { [0 ... WORDS - 1] = ~0UL };
	static const u64 none[WORDS], mask[3] = { 0, ~0UL, 1UL << 63 };

	CHECK_OK(manual(vm, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, 0));
	CHECK_OK(vm_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, AREA, MIB2, host_alloc(MIB2, MIB2)));
	vcpu_sync(vcpu, 1);
	check_log(vm, none);
	want(vm, all);
	vcpu_sync(vcpu, 1);
	check_log(vm, all);
	check_log(vm, all);
	CHECK_OK(clear_log(vm, 1, 128, 192, mask));
	for (u32 i = 0; i < 3; i++)
		expected[2 + i] = ~mask[i];
	check_log(vm, expected);
	want(vm, none);
	vcpu_sync(vcpu, 1);
	check_log(vm, expected);
	want(vm, all);
	vcpu_sync(vcpu, 1);
	check_log(vm, all);
	CHECK_OK(clear_log(vm, 1, 0, PAGES, all));
	check_log(vm, none);
	for (u32 i = 0; i < ARRAY_SIZE(patterns); i++) {
		want(vm, patterns[i]);
		vcpu_sync(vcpu, 1);
		check_log(vm, patterns[i]);
		CHECK_OK(clear_log(vm, 1, 0, PAGES, patterns[i]));
		check_log(vm, none);
	}
}

/* All pages are in the log from the start, and writable as they were; also those of a block. */
TEST(initially_set)
{
	struct vm *vm = vm_create(.main = guest_write_wanted);
	struct vcpu *vcpu = &vm->vcpus[0];
	u64 expected[WORDS] = { [0 ... WORDS - 1] = ~0UL };
	void *area = host_alloc(MIB2, MIB2);

	CHECK_EQ(cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2), KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
	CHECK_OK(manual(vm, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET, 0));
	madvise(area, MIB2, MADV_HUGEPAGE);
	CHECK_OK(vm_slot(vm, 1, 0, AREA, MIB2, area));
	want(vm, all);
	vcpu_sync(vcpu, 1);
	vcpu_sync(vcpu, 1);
	CHECK_OK(vm_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, AREA, MIB2, area));
	check_log(vm, all);
	CHECK_OK(clear_log(vm, 1, 64, 64, all));
	expected[1] = 0;
	check_log(vm, expected);
	want(vm, patterns[1]);
	vcpu_sync(vcpu, 1);
	expected[1] = patterns[1][1];
	check_log(vm, expected);
	CHECK_OK(clear_log(vm, 1, 0, PAGES, all));
	for (u32 i = 0; i < ARRAY_SIZE(patterns); i++) {
		want(vm, patterns[i]);
		vcpu_sync(vcpu, 1);
		check_log(vm, patterns[i]);
		CHECK_OK(clear_log(vm, 1, 0, PAGES, all));
	}
	/* No page beyond the slot's end. */
	CHECK_OK(vm_slot(vm, 2, KVM_MEM_LOG_DIRTY_PAGES, AREA + MIB2, 67 * PAGE, host_alloc(MIB2, MIB2)));
	CHECK_OK(get_log(vm, 2, expected));
	CHECK_EQ(expected[0], ~0UL);
	CHECK_EQ(expected[1], 7);
}

TEST(errors_of_clearing)
{
	struct vm *vm = vm_create(.main = guest_write_wanted);

	EXPECT_ERRNO(manual(vm, KVM_DIRTY_LOG_INITIALLY_SET, 0), EINVAL);
	EXPECT_ERRNO(manual(vm, 4 | KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, 0), EINVAL);
	EXPECT_ERRNO(manual(vm, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, 1), EINVAL);
	CHECK_OK(manual(vm, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE, 0));
	EXPECT_ERRNO(clear_log(vm, 1, 0, 64, all), ENOENT); /* no such slot */
	EXPECT_ERRNO(clear_log(vm, 0, 0, 64, all), ENOENT); /* it does not log */
	EXPECT_ERRNO(clear_log(vm, 0, 1, 64, all), EINVAL);
	EXPECT_ERRNO(clear_log(vm, 0x10001, 0, 64, all), EINVAL);
	EXPECT_ERRNO(clear_log(vm, 0xffff, 0, 64, all), EINVAL);
	CHECK_OK(vm_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, AREA, MIB2, host_alloc(MIB2, MIB2)));
	want(vm, all);
	vcpu_sync(&vm->vcpus[0], 1);
	vcpu_sync(&vm->vcpus[0], 1);
	EXPECT_ERRNO(clear_log(vm, 1, 1, 64, all), EINVAL);
	EXPECT_ERRNO(clear_log(vm, 1, 0, 63, all), EINVAL);
	EXPECT_ERRNO(clear_log(vm, 1, 64, PAGES, all), EINVAL);
	EXPECT_ERRNO(clear_log(vm, 1, PAGES + 64, 0, all), EINVAL);
	EXPECT_ERRNO(clear_log(vm, 1, ~63UL, 64, all), EINVAL);
	EXPECT_ERRNO(clear_log(vm, 1, 0, PAGES, BAD_POINTER), EFAULT);
	CHECK_OK(clear_log(vm, 1, 0, 0, BAD_POINTER));
	CHECK_OK(clear_log(vm, 1, PAGES, 0, BAD_POINTER));
	check_log(vm, all); /* nothing has been cleared */
}

/* As a live migration: pages are copied while they are written; with the last round, after the guest has stopped, the copy is right. */
static u64 finish;

static void guest_scribble(u64 arg)
{
	u64 state = 88172645463325252UL + guest_self()->index;

	while (!READ_ONCE(finish)) {
		state ^= state << 13, state ^= state >> 7, state ^= state << 17;
		((volatile u64 *)AREA)[state % (MIB2 / 8)] = state;
	}
}

static void *run_vcpu(void *vcpu)
{
	vcpu_done(vcpu);
	return NULL;
}

static void copy_dirty(struct vm *vm, char *to, const char *from)
{
	u64 bitmap[WORDS];

	CHECK_OK(get_log(vm, 1, bitmap));
	for (u64 n = 0; n < PAGES; n++)
		if (bitmap[n / 64] >> (n % 64) & 1)
			memcpy(to + n * PAGE, from + n * PAGE, PAGE);
}

TEST(migration)
{
	struct vm *vm = vm_create(.main = guest_scribble, .vcpus = 2);
	char *area = host_alloc(MIB2, MIB2), *copy = host_alloc(MIB2, MIB2);
	pthread_t threads[2];

	CHECK_OK(vm_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, AREA, MIB2, area));
	for (int i = 0; i < 2; i++)
		CHECK(pthread_create(&threads[i], NULL, run_vcpu, &vm->vcpus[i]) == 0);
	for (int round = 0; round < 50; round++) {
		copy_dirty(vm, copy, area);
		usleep(2000);
	}
	VM_GLOBAL(vm, finish) = 1;
	for (int i = 0; i < 2; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
	copy_dirty(vm, copy, area);
	CHECK(memcmp(copy, area, MIB2) == 0);
}

/* What the hypervisor itself writes for the guest: the time that was stolen from it. */
static void guest_stolen(u64 arg)
{
	GUEST_CHECK_EQ(guest_hvc(0xc5000021, 0, 0, 0).x0, AREA);
	GUEST_SYNC(1);
}

TEST(stolen_time)
{
	struct vm *vm = vm_create(.main = guest_stolen);
	struct kvm_device_attr attr = {
		.group = KVM_ARM_VCPU_PVTIME_CTRL,
		.attr = KVM_ARM_VCPU_PVTIME_IPA,
		.addr = (u64) & (u64){ AREA },
	};
	u64 bitmap[WORDS];

	CHECK_OK(vm_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, AREA, MIB2, host_alloc(MIB2, MIB2)));
	if (ioctl(vm->vcpus[0].fd, KVM_SET_DEVICE_ATTR, &attr) < 0)
		SKIP("the host does not count stolen time");
	vcpu_sync(&vm->vcpus[0], 1);
	CHECK_OK(get_log(vm, 1, bitmap));
	CHECK_EQ(bitmap[0], 1);
}
