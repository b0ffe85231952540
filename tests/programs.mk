# SPDX-License-Identifier: GPL-2.0
# How the test programs are built: static aarch64 programs that run as the host's userspace and, copied, as the guest.
# Included by the Makefiles of tests/kselftest and tests/bench, which set
#
#   src       their folder                     programs  the names of their programs, each of one src/NAME.c
#   OUT       where the programs go (nothing else does: the folder can be copied to the server as it is)
#   sources   what is linked to each program beside the shared code, or nothing
#   KSRC      a kernel source tree, for its UAPI headers (may be left to the default)
OBJ ?= $(OUT).obj
KSRC ?= $(lastword $(filter-out %.new/source,$(wildcard /cache/kernel-7.2-full-*/source)))
CROSS_COMPILE ?= aarch64-linux-gnu-

CC := $(CROSS_COMPILE)gcc
tests := $(abspath $(dir $(lastword $(MAKEFILE_LIST))))
host := $(tests)/kselftest/lib
guest := $(tests)/guest
headers := $(OBJ)/headers/.complete

# The same binary runs in the host's userspace and, copied, as the guest: fixed address, nothing that needs a runtime
# (thread-local canaries, outlined atomics, library calls made by the compiler), and no vector registers unless asked for.
CFLAGS := -std=gnu11 -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -static -fno-pie -fno-stack-protector -fno-omit-frame-pointer \
	-mbranch-protection=none -mno-outline-atomics -mgeneral-regs-only -fno-tree-loop-distribute-patterns -fno-builtin-memset -fno-builtin-memcpy \
	-fno-builtin-memcmp -fno-strict-aliasing -ffile-prefix-map=$(src)/= -ffile-prefix-map=$(tests)/= -pthread $(EXTRA_CFLAGS)
CPPFLAGS := -D_GNU_SOURCE -isystem $(OBJ)/headers/include -I$(src) -I$(host) -I$(guest)
LDFLAGS := -Wl,--strip-debug -static -no-pie -Wl,-z,norelro -Wl,--build-id=none -Wl,-Ttext-segment=0x40000000 -pthread

lib := $(patsubst $(host)/%.c,$(OBJ)/lib/%.o,$(wildcard $(host)/*.c)) \
	$(patsubst $(guest)/%,$(OBJ)/guest/%.o,$(basename $(wildcard $(guest)/*.[cS]))) \
	$(addprefix $(OBJ)/,$(addsuffix .o,$(basename $(sources))))

all: $(addprefix $(OUT)/,$(programs))

$(OUT)/%: $(OBJ)/%.o $(lib)
	@mkdir -p $(@D)
	@echo "  LD      $*"
	@$(CC) $(LDFLAGS) -o $@ $^

$(OBJ)/%.o: $(src)/%.c $(headers)
	@mkdir -p $(@D)
	@echo "  CC      $*.c"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(OBJ)/%.o: $(src)/%.S $(headers)
	@mkdir -p $(@D)
	@echo "  AS      $*.S"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(OBJ)/lib/%.o: $(host)/%.c $(headers)
	@mkdir -p $(@D)
	@echo "  CC      lib/$*.c"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(OBJ)/guest/%.o: $(guest)/%.c $(headers)
	@mkdir -p $(@D)
	@echo "  CC      guest/$*.c"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(OBJ)/guest/%.o: $(guest)/%.S $(headers)
	@mkdir -p $(@D)
	@echo "  AS      guest/$*.S"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# The kernel's own headers, exported by its own rule, out of tree so that the source stays as it is.
$(headers):
	@test -d "$(KSRC)" || { echo "no kernel source: give KSRC=" >&2; exit 1; }
	@echo "  HDRS    $(KSRC)"
	@rm -rf $(OBJ)/headers && mkdir -p $(OBJ)/headers/include
	@$(tests)/kselftest/headers.sh "$(KSRC)" $(OBJ)/headers/include
	@touch $@

clean:
	rm -rf $(OUT) $(OBJ)

.PHONY: all clean
.SECONDARY:
.DELETE_ON_ERROR:
-include $(wildcard $(OBJ)/*.d $(OBJ)/*/*.d)
