// SPDX-License-Identifier: GPL-2.0
/* Guest memory that the host swaps out, merges with equal pages, makes huge, or brings when touched. */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vm.h"

#define AREA 0x80000000UL
#define PAGE 4096UL
#define PAGES 256UL
#define SIZE (PAGES * PAGE)
#define KSM "/sys/kernel/mm/ksm/"
#define LRU "/sys/kernel/mm/lru_gen/enabled"
#define KHUGEPAGED "/sys/kernel/mm/transparent_hugepage/khugepaged/"
#define CGROUPS "/tmp/reclaim.cgroups"
#define CGROUP CGROUPS "/guest"

static u64 stop, rounds;

static volatile u64 *guest_page(u64 i)
{
	return (volatile u64 *)(AREA + i * PAGE);
}

/* Counts in each page, again and again: what was written is there when it is looked at again. */
static void guest_count(u64 arg)
{
	for (u64 round = 0; !READ_ONCE(stop); round++) {
		for (u64 i = 0; i < PAGES; i++) {
			if (*guest_page(i) != (i << 32 | round))
				GUEST_FAIL("a page has lost what was written: page, value", i, *guest_page(i));
			*guest_page(i) = i << 32 | (round + 1);
		}
		WRITE_ONCE(rounds, round + 1);
	}
}

static void wait_rounds(struct vm *vm, u64 more)
{
	u64 before = VM_GLOBAL(vm, rounds);

	while (VM_GLOBAL(vm, rounds) < before + more)
		sleep_us(1000);
}

/* Memory whose pages have their numbers in them, as guest_count() wants to find them. */
static u8 *numbered_memory(void)
{
	u8 *memory = host_alloc(SIZE, 0x200000);

	madvise(memory, SIZE, MADV_NOHUGEPAGE);
	for (u64 i = 0; i < PAGES; i++)
		*(u64 *)(memory + i * PAGE) = i << 32;
	return memory;
}

static bool put(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);
	bool done = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

	if (fd >= 0)
		close(fd);
	return done;
}

static u64 number_in(const char *path, const char *name)
{
	char line[128];
	u64 value = 0;
	size_t length = strlen(name);
	FILE *file = fopen(path, "r");

	if (!file)
		FAIL("%s: %s", path, strerrorname_np(errno));
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, name, length)) {
			value = strtoull(line + length, NULL, 10);
			break;
		}
	fclose(file);
	return value;
}

/* Swap space in compressed memory, once: a second case finds it in use. */
static void need_swap(void)
{
	static u8 header[PAGE];
	int fd;

	if (access("/dev/zram0", F_OK) && system("modprobe -q zram"))
		SKIP("no zram here");
	if (number_in("/proc/meminfo", "SwapTotal:"))
		return;
	CHECK(put("/sys/block/zram0/disksize", "64M"));
	*(u32 *)(header + 1024) = 1; /* version, and the last page; see linux/swap.h */
	*(u32 *)(header + 1028) = (64 << 20) / PAGE - 1;
	memcpy(header + PAGE - 10, "SWAPSPACE2", 10);
	fd = CHECK_OK(open("/dev/zram0", O_WRONLY));
	CHECK(write(fd, header, PAGE) == PAGE);
	CHECK_OK(fsync(fd));
	close(fd);
	CHECK_OK(swapon("/dev/zram0", 0));
}

TEST(swapped_out_while_running)
{
	u8 *memory = numbered_memory();
	struct vm *vm = vm_create(.main = guest_count);
	u64 out, before;

	need_swap();
	before = number_in("/proc/vmstat", "pswpout ");
	CHECK_OK(vm_slot(vm, 1, 0, AREA, SIZE, memory));
	vcpu_start(&vm->vcpus[0]);
	wait_rounds(vm, 1);
	do {
		CHECK_OK(madvise(memory, SIZE, MADV_PAGEOUT));
		out = number_in("/proc/vmstat", "pswpout ") - before;
	} while (out < 3 * PAGES);
	wait_rounds(vm, 2);
	VM_GLOBAL(vm, stop) = 1;
	vcpu_join(&vm->vcpus[0]);
	ktap_note("%lu pages were swapped out in %lu rounds", out, VM_GLOBAL(vm, rounds));
	for (u64 i = 0; i < PAGES; i++)
		CHECK_EQ(*(u64 *)(memory + i * PAGE), i << 32 | VM_GLOBAL(vm, rounds));
}

/* Pages that the guest uses all the time, in the middle of such as it has used once. */
#define BUSY 64UL
#define IDLE 2048UL
#define FIRST_BUSY (IDLE / 2)

static bool is_busy(u64 i)
{
	return i - FIRST_BUSY < BUSY;
}

/* Writes all pages, and from then on only the busy ones. */
static void guest_use_few(u64 arg)
{
	for (u64 i = 0; i < BUSY + IDLE; i++)
		*guest_page(i) = i << 32;
	for (u64 round = 1; !READ_ONCE(stop); round++) {
		for (u64 i = FIRST_BUSY; i < FIRST_BUSY + BUSY; i++) {
			if (*guest_page(i) != (i << 32 | (round - 1)))
				GUEST_FAIL("a page has lost what was written: page, value", i, *guest_page(i));
			*guest_page(i) = i << 32 | round;
		}
		WRITE_ONCE(rounds, round);
	}
}

/* Puts this process into a memory cgroup of its own, so that what is reclaimed is its memory. */
static void enter_cgroup(void)
{
	char pid[16];

	mkdir(CGROUPS, 0700);
	if (access(CGROUPS "/cgroup.procs", F_OK) && mount("none", CGROUPS, "cgroup2", 0, NULL))
		SKIP("no cgroups here: %s", strerrorname_np(errno));
	if (!put(CGROUPS "/cgroup.subtree_control", "+memory"))
		SKIP("no memory cgroups here: %s", strerrorname_np(errno));
	mkdir(CGROUP, 0700);
	snprintf(pid, sizeof(pid), "%d", getpid());
	CHECK(put(CGROUP "/cgroup.procs", pid));
}

/* How many of the pages are swapped out. */
static u64 swapped_out(const u8 *memory)
{
	static u64 entries[BUSY + IDLE];
	u64 count = 0;
	int fd = CHECK_OK(open("/proc/self/pagemap", O_RDONLY));

	CHECK_EQ(pread(fd, entries, sizeof(entries), (u64)memory / PAGE * 8), sizeof(entries));
	close(fd);
	for (u64 i = 0; i < BUSY + IDLE; i++)
		count += entries[i] >> 62 & 1;
	return count;
}

/*
 * The host's own tables do not say which pages a guest uses: that the busy ones stay while the idle
 * ones go is what the stage-2 tables have told it. Pages go in the order in which they were first
 * used, so that it is the busy ones' turn when half of the others are gone. A host that is not told
 * takes all of them, each time.
 */
static void idle_pages_go(const char *lru)
{
	const u64 size = (BUSY + IDLE) * PAGE;
	u64 before, out, back, writes = 0;
	struct vm *vm;
	u8 *memory;

	need_swap();
	if (!put(LRU, lru) && *lru != 'n')
		SKIP("no multi-generational LRU here");
	enter_cgroup();
	vm = vm_create(.main = guest_use_few);
	/* The test's own pages stay where they are: one that goes and comes back would be counted. */
	CHECK_OK(mlockall(MCL_CURRENT));
	memory = host_alloc(size, 0x200000);
	madvise(memory, size, MADV_NOHUGEPAGE);
	CHECK_OK(vm_slot(vm, 1, 0, AREA, size, memory));
	vcpu_start(&vm->vcpus[0]);
	wait_rounds(vm, 1);
	before = number_in(CGROUP "/memory.stat", "pswpin ");
	do {
		/*
		 * A little at a time, so that the guest is seen to use the busy ones in between. The
		 * host may find less than that.
		 */
		put(CGROUP "/memory.reclaim", "128K swappiness=max");
		wait_rounds(vm, 2);
		writes++;
		out = swapped_out(memory);
	} while (out < IDLE * 3 / 4);
	back = number_in(CGROUP "/memory.stat", "pswpin ") - before;
	VM_GLOBAL(vm, stop) = 1;
	vcpu_join(&vm->vcpus[0]);
	ktap_note("%lu of %lu idle pages went by %lu writes in %lu rounds, and %lu pages came back", out, IDLE, writes,
		  VM_GLOBAL(vm, rounds), back);
	CHECK(back < BUSY / 2);
	for (u64 i = 0; i < BUSY + IDLE; i++)
		CHECK_EQ(*(u64 *)(memory + i * PAGE), i << 32 | (is_busy(i) ? VM_GLOBAL(vm, rounds) : 0));
}

/* Asks about a page at a time, and has the CPUs forget its translation (clear_flush_young). */
TEST(idle_pages_go_first)
{
	idle_pages_go("n");
}

/* Asks about pages around it too, and leaves translations alone (clear_young). */
TEST(idle_pages_go_first_by_generations)
{
	idle_pages_go("y");
}

/* Of the mapping that begins with `memory`: how much of it is huge pages. */
static u64 huge_kib(const u8 *memory)
{
	char line[256], start[24];
	bool found = false;
	u64 kib = ~0UL;
	FILE *file = fopen("/proc/self/smaps", "r");

	CHECK(file != NULL);
	snprintf(start, sizeof(start), "%lx-", (u64)memory);
	while (kib == ~0UL && fgets(line, sizeof(line), file)) {
		found |= !strncmp(line, start, strlen(start));
		if (found && !strncmp(line, "AnonHugePages:", 14))
			kib = strtoull(line + 14, NULL, 10);
	}
	fclose(file);
	CHECK(kib != ~0UL);
	return kib;
}

static void wait_scans(u64 more)
{
	u64 before = number_in(KHUGEPAGED "full_scans", "");

	while (number_in(KHUGEPAGED "full_scans", "") < before + more)
		sleep_us(10000);
}

/*
 * khugepaged makes huge pages of memory that is in use, which the host's tables do not say of a
 * guest's (test_young). The first half of the memory is used by nobody.
 */
TEST(becomes_huge_where_the_guest_uses_it)
{
	const u64 half = 0x200000;
	u8 *memory = host_alloc(2 * half, 2 * half);
	struct vm *vm = vm_create(.main = guest_count);

	if (access(KHUGEPAGED "full_scans", F_OK))
		SKIP("no khugepaged here");
	madvise(memory, 2 * half, MADV_NOHUGEPAGE);
	for (u64 i = 0; i < 2 * half / PAGE; i++)
		*(u64 *)(memory + i * PAGE) = (i % (half / PAGE)) << 32;
	CHECK_OK(vm_slot(vm, 1, 0, AREA, half, memory + half));
	vcpu_start(&vm->vcpus[0]);
	wait_rounds(vm, 1);
	/* The host's tables say now that nothing was used. */
	CHECK(put("/proc/self/clear_refs", "1"));
	CHECK_OK(madvise(memory, 2 * half, MADV_HUGEPAGE));
	CHECK(put(KHUGEPAGED "scan_sleep_millisecs", "10") && put(KHUGEPAGED "pages_to_scan", "65536"));
	while (!huge_kib(memory))
		wait_scans(1);
	wait_scans(2);
	CHECK_EQ(huge_kib(memory), half >> 10);
	wait_rounds(vm, 2);
	VM_GLOBAL(vm, stop) = 1;
	vcpu_join(&vm->vcpus[0]);
	for (u64 i = 0; i < PAGES; i++) {
		CHECK_EQ(*(u64 *)(memory + i * PAGE), i << 32);
		CHECK_EQ(*(u64 *)(memory + half + i * PAGE), i << 32 | VM_GLOBAL(vm, rounds));
	}
}

/* Reads its pages until it is told to write them. */
static void guest_read_then_write(u64 arg)
{
	u64 sum;

	do {
		sum = 0;
		for (u64 i = 0; i < PAGES; i++)
			sum += *guest_page(i) >> 32;
		if (sum != PAGES * (PAGES - 1) / 2)
			GUEST_FAIL("a merged page holds something else; sum", sum, 0);
		WRITE_ONCE(rounds, rounds + 1);
	} while (!READ_ONCE(stop));
	for (u64 i = 0; i < PAGES; i++)
		*guest_page(i) += 1;
}

/* Equal pages of two guests become one, and two again when one of them writes. */
TEST(merged_with_another_guests)
{
	u8 *memory[2];
	struct vm *vm[2];
	u64 before, merged = 0;

	if (access(KSM "run", W_OK))
		SKIP("no KSM here");
	before = number_in(KSM "pages_sharing", "");
	for (int i = 0; i < 2; i++) {
		memory[i] = numbered_memory();
		vm[i] = vm_create(.main = guest_read_then_write);
		CHECK_OK(vm_slot(vm[i], 1, 0, AREA, SIZE, memory[i]));
		CHECK_OK(madvise(memory[i], SIZE, MADV_MERGEABLE));
		vcpu_start(&vm[i]->vcpus[0]);
		wait_rounds(vm[i], 1);
	}
	CHECK(put(KSM "sleep_millisecs", "1") && put(KSM "pages_to_scan", "1000") && put(KSM "run", "1"));
	for (int i = 0; i < 2000 && merged < PAGES / 2; i++) {
		sleep_us(10000);
		merged = number_in(KSM "pages_sharing", "") - before;
	}
	ktap_note("%lu pages are shared", merged);
	CHECK(merged >= PAGES / 2);
	wait_rounds(vm[0], 2);
	/* One writes what is merged now and what it has had before, the other reads on. */
	VM_GLOBAL(vm[0], stop) = 1;
	vcpu_join(&vm[0]->vcpus[0]);
	wait_rounds(vm[1], 2);
	for (u64 i = 0; i < PAGES; i++) {
		CHECK_EQ(*(u64 *)(memory[0] + i * PAGE), (i << 32) + 1);
		CHECK_EQ(*(u64 *)(memory[1] + i * PAGE), i << 32);
	}
}

static int userfaults(u8 *memory, u64 mode, u64 features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register range = { .range = { (u64)memory, SIZE }, .mode = mode };
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		SKIP("no userfaultfd here");
	if (ioctl(fd, UFFDIO_API, &api))
		SKIP("userfaultfd cannot do this here");
	CHECK_OK(ioctl(fd, UFFDIO_REGISTER, &range));
	return fd;
}

/* The address of the next fault; 0 if there is none for a while. */
static u64 next_fault(int fd, struct uffd_msg *message)
{
	struct pollfd ready = { .fd = fd, .events = POLLIN };

	if (poll(&ready, 1, 200) != 1)
		return 0;
	/* Another thread's fault on the same page may have been answered in between. */
	if (read(fd, message, sizeof(*message)) != sizeof(*message))
		return 0;
	CHECK_EQ(message->event, UFFD_EVENT_PAGEFAULT);
	return message->arg.pagefault.address & ~(PAGE - 1);
}

/* Each page has to be brought before a vCPU can go on: what migration with post-copy does. */
static void guest_look(u64 arg)
{
	for (u64 i = 0; i < PAGES; i++)
		GUEST_CHECK_EQ(*guest_page(i), i * 3 + 1);
}

TEST(brought_when_touched)
{
	u8 *memory = host_alloc(SIZE, 0x200000);
	u64 content[PAGE / 8] = { 0 }, brought = 0;
	struct vm *vm = vm_create(.main = guest_look, .vcpus = 2);
	struct uffd_msg message;
	int fd = userfaults(memory, UFFDIO_REGISTER_MODE_MISSING, 0);

	CHECK_OK(vm_slot(vm, 1, 0, AREA, SIZE, memory));
	for (u32 i = 0; i < 2; i++)
		vcpu_start(&vm->vcpus[i]);
	while (brought < PAGES) {
		u64 address = next_fault(fd, &message);
		struct uffdio_copy copy = { .dst = address, .src = (u64)content, .len = PAGE };

		if (!address)
			continue;
		content[0] = (address - (u64)memory) / PAGE * 3 + 1;
		if (ioctl(fd, UFFDIO_COPY, &copy) == 0)
			brought++;
		else
			CHECK_EQ(errno, EEXIST);
	}
	for (u32 i = 0; i < 2; i++)
		vcpu_join(&vm->vcpus[i]);
}

/* A page that is protected stays as it is until the host has seen the fault: what a snapshot of a running guest does. */
TEST(copied_before_written)
{
	u8 *memory = numbered_memory();
	u64 saved[PAGES] = { 0 }, count = 0, round;
	struct vm *vm = vm_create(.main = guest_count);
	struct uffd_msg message;
	int fd = userfaults(memory, UFFDIO_REGISTER_MODE_WP, UFFD_FEATURE_PAGEFAULT_FLAG_WP);
	struct uffdio_writeprotect protect = { .range = { (u64)memory, SIZE }, .mode = UFFDIO_WRITEPROTECT_MODE_WP };

	CHECK_OK(vm_slot(vm, 1, 0, AREA, SIZE, memory));
	vcpu_start(&vm->vcpus[0]);
	wait_rounds(vm, 1);
	CHECK_OK(ioctl(fd, UFFDIO_WRITEPROTECT, &protect));
	while (count < PAGES) {
		u64 address = next_fault(fd, &message), i = (address - (u64)memory) / PAGE;
		struct uffdio_writeprotect open = { .range = { address, PAGE } };

		if (!address)
			continue;
		CHECK(i < PAGES && message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP);
		CHECK_EQ(saved[i], 0);
		saved[i] = READ_ONCE(*(u64 *)(memory + i * PAGE));
		sleep_us(200);
		CHECK_EQ(READ_ONCE(*(u64 *)(memory + i * PAGE)), saved[i]);
		CHECK_OK(ioctl(fd, UFFDIO_WRITEPROTECT, &open));
		count++;
	}
	wait_rounds(vm, 2);
	VM_GLOBAL(vm, stop) = 1;
	vcpu_join(&vm->vcpus[0]);
	/* All of one moment: the guest was in one round, and had counted some of the pages in it. */
	round = saved[PAGES - 1] & 0xffffffff;
	for (u64 i = 0, behind = 0; i < PAGES; i++) {
		CHECK_EQ(saved[i] >> 32, i);
		behind |= (saved[i] & 0xffffffff) == round;
		CHECK_EQ(saved[i] & 0xffffffff, behind ? round : round + 1);
	}
}

/* Also after a case that has not come to its end. */
TEST(all_is_as_before)
{
	put(LRU, "y");
	put(KHUGEPAGED "scan_sleep_millisecs", "10000");
	put(KHUGEPAGED "pages_to_scan", "4096");
	rmdir(CGROUP);
	umount(CGROUPS);
	rmdir(CGROUPS);
	if (access(KSM "run", W_OK) == 0) {
		/* Linux's defaults; 2 takes all merged pages apart. */
		CHECK(put(KSM "sleep_millisecs", "20") && put(KSM "pages_to_scan", "100"));
		CHECK(put(KSM "run", "2") && put(KSM "run", "0"));
	}
	if (access("/dev/zram0", F_OK) == 0 && number_in("/proc/meminfo", "SwapTotal:")) {
		CHECK_OK(swapoff("/dev/zram0"));
		CHECK(put("/sys/block/zram0/reset", "1"));
	}
}
