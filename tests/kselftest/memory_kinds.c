// SPDX-License-Identifier: GPL-2.0
/* Each kind of memory that a VMM may give a guest: taken or refused, read and written by both, and how much is gone where it breaks. */
#include <fcntl.h>
#include <linux/udmabuf.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm.h"

#define AREA 0x80000000UL
#define PAGE 4096UL
#define MIB2 0x200000UL
#define GIB 0x40000000UL
#define PAGES 64

static u64 where = AREA;

/* Adds up the first words of some pages and writes its own there; then touches one page again and again. */
static void guest_use(u64 arg)
{
	u64 sum = 0;

	for (u64 i = 0; i < PAGES; i++) {
		volatile u64 *at = (u64 *)(AREA + i * PAGE);

		sum += *at;
		*at = 1000 + i;
	}
	dsb(ish);
	for (;;) {
		GUEST_SYNC2(1, sum);
		*(volatile u64 *)READ_ONCE(where) += 1;
	}
}

static struct vm *use(u8 *memory, u64 size)
{
	struct vm *vm = vm_create(.main = guest_use);

	for (u64 i = 0; i < PAGES; i++)
		*(volatile u64 *)(memory + i * PAGE) = i;
	CHECK_OK(vm_slot(vm, 1, 0, AREA, size, memory));
	CHECK_EQ(vcpu_sync(&vm->vcpus[0], 1), PAGES * (PAGES - 1) / 2);
	for (u64 i = 0; i < PAGES; i++)
		CHECK_EQ(*(volatile u64 *)(memory + i * PAGE), 1000 + i);
	return vm;
}

static volatile int signals;
static siginfo_t told;

static void on_bus(int signal, siginfo_t *info, void *context)
{
	signals++;
	told = *info;
}

/* A page of the guest's breaks. Its next access is the VMM's SIGBUS, which says how much is lost around it. */
static void breaks(struct vm *vm, u8 *memory, u64 offset, int shift)
{
	struct sigaction action = { .sa_sigaction = on_bus, .sa_flags = SA_SIGINFO };
	u64 lost = ~((1UL << shift) - 1);

	CHECK_OK(sigaction(SIGBUS, &action, NULL));
	if (madvise(memory + offset, PAGE, MADV_HWPOISON))
		SKIP("the host's kernel cannot do that: %s", strerrorname_np(errno));
	signals = 0;
	VM_GLOBAL(vm, where) = AREA + offset + 8;
	CHECK_EQ(vcpu_run(&vm->vcpus[0]), -EINTR);
	CHECK(signals >= 1);
	CHECK_EQ(told.si_code, BUS_MCEERR_AR);
	CHECK_EQ((u64)told.si_addr & lost, (u64)(memory + offset) & lost);
	CHECK_EQ(told.si_addr_lsb, shift);
}

TEST(pages)
{
	u8 *memory = host_alloc(MIB2, MIB2);

	madvise(memory, MIB2, MADV_NOHUGEPAGE);
	breaks(use(memory, MIB2), memory, 5 * PAGE, 12);
}

TEST(transparent_huge_page)
{
	u8 *memory = host_alloc(MIB2, MIB2);

	if (madvise(memory, MIB2, MADV_HUGEPAGE))
		SKIP("no transparent huge pages");
	breaks(use(memory, MIB2), memory, 5 * PAGE, 12);
}

static u8 *from_file(int fd, u64 size)
{
	u8 *memory;

	CHECK_OK(ftruncate(fd, size));
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(memory != MAP_FAILED);
	return memory;
}

TEST(memfd)
{
	u8 *memory = from_file(CHECK_OK(memfd_create("guest", 0)), MIB2);

	breaks(use(memory, MIB2), memory, 5 * PAGE, 12);
}

TEST(shared_anonymous)
{
	u8 *memory = mmap(NULL, MIB2, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(memory != MAP_FAILED);
	breaks(use(memory, MIB2), memory, 5 * PAGE, 12);
}

TEST(file)
{
	char name[] = "/tmp/guestXXXXXX";
	u8 *memory = from_file(CHECK_OK(mkstemp(name)), MIB2);

	unlink(name);
	use(memory, MIB2);
}

/* A file whose pages are those of the device that it lies on: LOFT_DAX is a directory of such a file system (dax.sh). */
TEST(file_on_dax)
{
	const char *directory = getenv("LOFT_DAX");
	char name[100];
	u8 *memory;
	int fd;

	if (!directory)
		SKIP("LOFT_DAX names no directory");
	snprintf(name, sizeof(name), "%s/guest", directory);
	fd = CHECK_OK(open(name, O_RDWR | O_CREAT | O_TRUNC, 0600));
	CHECK_OK(ftruncate(fd, 2 * MIB2));
	memory = mmap(NULL, 2 * MIB2, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
	CHECK(memory != MAP_FAILED); /* MAP_SYNC: nothing but DAX can do that */
	use(memory, 2 * MIB2);
	/* What the guest has stored is in the file. */
	for (u64 i = 0; i < PAGES; i++) {
		u64 word;

		CHECK_EQ(pread(fd, &word, sizeof(word), i * PAGE), sizeof(word));
		CHECK_EQ(word, 1000 + i);
	}
}

/* Pages of hugetlbfs of this size, `count` of them; the case is skipped where the host has none to give. */
static u8 *huge_pages(int shift, u64 count)
{
	u64 size = count << shift;
	u8 *memory;
	char path[100], before[24] = "";
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%lukB/nr_hugepages", 1UL << shift >> 10);
	fd = open(path, O_RDWR);
	if (fd >= 0 && read(fd, before, sizeof(before) - 1) > 0)
		dprintf(fd, "%lu", count);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | shift << MAP_HUGE_SHIFT, -1, 0);
	/* Those that are mapped are given back to the system when they are unmapped. */
	if (fd >= 0)
		dprintf(fd, "%s", before);
	if (memory == MAP_FAILED)
		SKIP("the host has no such pages: %s", strerrorname_np(errno));
	return memory;
}

TEST(huge_pages_of_2_mib)
{
	u8 *memory = huge_pages(21, 2);

	breaks(use(memory, 2 * MIB2), memory, MIB2 + 3 * PAGE, 21);
}

TEST(huge_page_of_1_gib)
{
	u8 *memory = huge_pages(30, 1);

	breaks(use(memory, GIB), memory, MIB2 + 3 * PAGE, 30);
}

static bool cacheable_pfnmap(struct vm *vm)
{
	return ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_ARM_CACHEABLE_PFNMAP_SUPPORTED) == 1;
}

/* A dma-buf: cacheable memory without pages that could be counted. Where a CPU needs caches cleaned it is refused, when it is there. */
static int dma_buf(void)
{
	int device = open("/dev/udmabuf", O_RDWR), memfd = CHECK_OK(memfd_create("buffer", MFD_ALLOW_SEALING));
	struct udmabuf_create create = { .memfd = memfd, .size = PAGES * PAGE };

	if (device < 0)
		SKIP("no udmabuf: %s", strerrorname_np(errno));
	CHECK_OK(ftruncate(memfd, PAGES * PAGE));
	CHECK_OK(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK));
	return CHECK_OK(ioctl(device, UDMABUF_CREATE, &create));
}

TEST(dma_buf)
{
	u8 *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, dma_buf(), 0);
	struct vm *vm = vm_create(.main = guest_use);

	CHECK(memory != MAP_FAILED);
	EXPECT_ERRNO(vm_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, AREA, PAGES * PAGE, memory), EINVAL);
	if (!cacheable_pfnmap(vm)) {
		EXPECT_ERRNO(vm_slot(vm, 1, 0, AREA, PAGES * PAGE, memory), EINVAL);
		return;
	}
	vm = use(memory, PAGES * PAGE);
	EXPECT_ERRNO(vm_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, AREA, PAGES * PAGE, memory), EINVAL);
	/* The guest has it no longer than the VMM. */
	CHECK_OK(munmap(memory, PAGES * PAGE));
	CHECK_EQ(vcpu_run(&vm->vcpus[0]), -EFAULT);
}

/* It comes when the slot is there already: what is behind it is RAM, which any CPU can clean. */
TEST(dma_buf_later)
{
	struct vm *vm = vm_create(.main = guest_use);
	u8 *memory = host_alloc(PAGES * PAGE, PAGE);

	CHECK_OK(vm_slot(vm, 1, 0, AREA, PAGES * PAGE, memory));
	CHECK(mmap(memory, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, dma_buf(), 0) == memory);
	for (u64 i = 0; i < PAGES; i++)
		*(volatile u64 *)(memory + i * PAGE) = i;
	CHECK_EQ(vcpu_sync(&vm->vcpus[0], 1), PAGES * (PAGES - 1) / 2);
	CHECK_EQ(*(volatile u64 *)memory, 1000);
}

/*
 * A device's registers, here the emulator's list of files: the store of a file's number, the first of which is who it is, is
 * followed by loads of its bytes. None of it is code.
 */
#define DEVICE 0x09020000UL
#define QEMU 0x554d4551UL

static u64 fetched;

static void on_fetch(struct guest_regs *regs)
{
	fetched = regs->esr;
	regs->pc = regs->x[30];
}

static void guest_device(u64 arg)
{
	u64 name = 0;

	guest_sync_handlers[EC_IABT_CUR] = on_fetch;
	mmio_write16(AREA + 8, 0);
	for (u32 i = 0; i < 4; i++)
		name |= (u64)mmio_read8(AREA) << 8 * i;
	GUEST_SYNC2(1, name);
	((void (*)(void))AREA)();
	GUEST_SYNC2(2, fetched);
	mmio_read8(AREA);
	GUEST_SYNC(3);
	mmio_read8(AREA);
}

TEST(device_registers)
{
	struct vm *vm = vm_create(.main = guest_device);
	struct vcpu *vcpu = &vm->vcpus[0];
	int fd = open("/dev/mem", O_RDWR | O_SYNC);
	u8 *memory = fd < 0 ? MAP_FAILED : mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, DEVICE);
	u64 name = 0;

	if (memory == MAP_FAILED)
		SKIP("the device cannot be had: %s", strerrorname_np(errno));
	*(volatile u16 *)(memory + 8) = 0;
	for (u32 i = 0; i < 4; i++)
		name |= (u64) * (volatile u8 *)memory << 8 * i;
	if (name != QEMU)
		SKIP("there is no such device");
	EXPECT_ERRNO(vm_slot(vm, 1, KVM_MEM_LOG_DIRTY_PAGES, AREA, PAGE, memory), EINVAL);
	CHECK_OK(vm_slot(vm, 1, 0, AREA, PAGE, memory));
	CHECK_EQ(vcpu_sync(vcpu, 1), QEMU);
	/* An external abort, as where there is nothing. */
	CHECK_EQ(vcpu_sync(vcpu, 2) & 0x3f, 0x10);
	vcpu_sync(vcpu, 3);
	CHECK_OK(munmap(memory, PAGE));
	CHECK_EQ(vcpu_run(vcpu), -EFAULT);
}
