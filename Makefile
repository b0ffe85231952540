# SPDX-License-Identifier: GPL-2.0
# loft: what can be made. `make help` lists it. Every target sets up what it needs by itself; products go to out/, what is slow
# to make is kept outside this tree (LOFT_CACHE, default ~/.cache/loft).

# The kernel that the module is built for and the emulated server runs: 7.2, 7.3, or a full release (`uname -r`).
KERNEL ?= 7.2
export KERNEL

# Handed on as they were written: a $ in them is the guest's, not make's.
ifdef CMD
override CMD := $(value CMD)
endif
ifdef TEST
override TEST := $(value TEST)
endif
export CMD TEST K RERUN HOST GUEST HYP CPU CPUS MEM TIMEOUT DEBUG LONG UPDATE BARS WEIGHTS ONLY EXPLAIN ROUNDS

all: module userspace ## build the module and the launcher (the default)

module: ## build out/$(KERNEL)/loft.ko for a stock Debian kernel
	@scripts/build module

userspace: ## build out/loft, the launcher
	@scripts/build userspace

run: ## boot an emulated server and a guest in it: its shell, or CMD='...'; HOST=shell is the server's shell
	@scripts/run

test: ## run the tests; TEST=pattern selects, RERUN=1 what failed; DEBUG=1 on a kernel that looks for mistakes, DEBUG=kcsan for data races
	@scripts/test

test-all: ## run everything: LONG=1, and on both debug kernels (hours)
	@LONG=1 scripts/test
	@LONG=1 DEBUG=1 scripts/test
	@LONG=1 DEBUG=kcsan scripts/test

debug-kernel: ## build that kernel (half an hour): KASAN, lockdep, leaks; DEBUG=kcsan the one for data races
	@scripts/kernel debug$(if $(filter kcsan,$(DEBUG)),-kcsan)

check: ## format, lints, licences, the places of `unsafe`, imports, names, the CPUs that the kernel knows
	@scripts/check

quick: ## what a commit needs, in a minute, without root: format, lints, imports, places of `unsafe`, the models' tests
	@scripts/check quick
	@scripts/test model

fmt: ## format the Rust sources
	@scripts/check format

hooks: ## have git run `make quick` before each commit, and look at its title
	git config core.hooksPath .githooks

doc: ## rustdoc of the models and of userspace, into out/doc
	@scripts/doc

rust-analyzer: ## write rust-project.json, with which an editor knows the module and the kernel's crates
	@scripts/rust-analyzer

bench: ## what operations cost on loft and on KVM, and whether they became slower; UPDATE=1 takes the figures as the baseline
	@scripts/bench

bench-anatomy: ## what single exits are made of, on loft and on KVM, instruction by instruction
	@scripts/bench-anatomy

bench-apps: ## what applications cost natively, on KVM and on loft (half an hour); ONLY='NAME...' runs some, EXPLAIN=NAME says where one's instructions are
	@scripts/bench-apps

bench-boot: ## what booting a guest costs: loft's launcher on loft and on KVM, and QEMU on KVM; BARS=1, ROUNDS=N
	@scripts/bench-boot

kvm-selftests: ## run Linux's own KVM selftests against loft, into out/kvm-selftests.json; HYP=kvm for KVM itself
	@scripts/kvm-selftests

deb: ## make Debian packages for arm64 in out/deb: loft-dkms (the module, built by DKMS) and loft (the launcher)
	@scripts/deb

load: ## on an arm64 server: build for the running kernel and load the module
	@scripts/load

update: ## take newer kernels and packages from the archive with the next build, and forget old cache entries
	@scripts/update

clean: ## remove out/; the cache stays
	rm -rf out

help: ## this list
	@echo "make [KERNEL=7.2|7.3] TARGET"
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1\t\2/p' Makefile | expand -t 18

.PHONY: all module userspace run test test-all debug-kernel check quick fmt hooks doc rust-analyzer bench bench-anatomy bench-apps bench-boot kvm-selftests deb load update clean help
