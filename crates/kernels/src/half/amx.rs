//! Tiles by the matrix unit of x86 CPUs, AMX: Intel, *Architecture Instruction Set Extensions Programming
//! Reference*, chapter 3. Its registers hold 16 rows of 64 bytes; four of them are a block of the result,
//! of 32 rows and columns. As the compiler knows none of this, it is written out.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, __get_cpuid_max};
use std::sync::OnceLock;

use super::tiles::{Rows, Runs, Tiles};
use crate::tile::{Last, PANEL_MAX, Target};

/// Rows of a register.
const ROWS: usize = 16;
/// Bytes of such a row.
const ROW_BYTES: u16 = 64;

/// Whether this CPU has the unit, and the system lets this process use it.
pub(crate) fn is_here() -> bool {
    static IS_HERE: OnceLock<bool> = OnceLock::new();
    *IS_HERE.get_or_init(|| has_unit() && is_permitted())
}

fn has_unit() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    __get_cpuid_max(0).0 >= 7 && __cpuid_count(7, 0).edx & (BF16 | TILE) == (BF16 | TILE)
}

/// Linux keeps the registers of threads only for processes that asked for it.
#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: a system call that touches no memory; it changes the registers that are named.
    unsafe {
        asm!("syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XTILEDATA, out("rcx") _, out("r11") _, options(nostack));
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// What the registers are: `LDTILECFG`'s operand.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Sums of two registers by two, in registers 0 to 3; 4 and 5 are for rows of the left operand, 6 and 7
/// for panels of the right one.
pub(super) struct Amx {
    /// Rows that the registers are configured for, if they are.
    rows: usize,
}

impl Amx {
    pub(super) fn new() -> Self {
        Self { rows: 0 }
    }

    /// # Safety
    /// [`is_here`].
    unsafe fn configure(&mut self, rows: usize) {
        if self.rows == rows {
            return;
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most 16")]
        let [first, second, whole] =
            [rows.min(ROWS), rows.saturating_sub(ROWS), ROWS].map(|rows| rows as u8);
        let mut all = [0; 16];
        all[..8].copy_from_slice(&[first, first, second, second, first, second, whole, whole]);
        let configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: all.map(|rows| if rows == 0 { 0 } else { ROW_BYTES }),
            rows: all,
        };
        // SAFETY: the unit is here, and the configuration one that it knows.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly))
        };
        self.rows = rows;
    }
}

impl Drop for Amx {
    /// Registers that are in use are saved with every switch of threads.
    fn drop(&mut self) {
        if self.rows > 0 {
            // SAFETY: they were configured, so the unit is here.
            unsafe { asm!("tilerelease", options(nomem, nostack)) };
        }
    }
}

impl Tiles for Amx {
    const ROWS: usize = 2 * ROWS;
    const PANEL: usize = 2 * ROWS;
    const UNIT: usize = 2 * ROWS;

    #[inline(always)]
    unsafe fn tile(
        &mut self,
        rows: Rows,
        runs: Runs<'_>,
        right: *const u32,
        target: Target,
        last: Last<'_>,
    ) {
        let mut sums = Sums([[0.0; PANEL_MAX]; Self::ROWS]);
        // SAFETY: the unit is here; the caller promises that the operands are.
        unsafe {
            self.configure(rows.count);
            sum(rows, runs, right, &mut sums);
        }
        // SAFETY: the target has its columns in each row.
        unsafe { finish(&sums, rows.count, target, last) }
    }
}

/// A block of the result.
#[repr(C, align(64))]
struct Sums([[f32; PANEL_MAX]; 2 * ROWS]);

/// Bytes between rows of the right operand and of the block.
const PANEL_BYTES: usize = PANEL_MAX * 4;

/// Of up to 16 rows in the upper half of the block, and of those beyond in its lower half.
///
/// # Safety
/// The unit is configured for so many rows; as [`Tiles::tile`] otherwise.
#[inline(always)]
unsafe fn sum(rows: Rows, runs: Runs<'_>, mut right: *const u32, sums: &mut Sums) {
    let is_tall = rows.count > ROWS;
    // SAFETY: as the caller promises; each of these loads 16 rows of 64 bytes, or fewer at the end.
    unsafe {
        asm!("tilezero tmm0", "tilezero tmm1", options(nomem, nostack));
        if is_tall {
            asm!("tilezero tmm2", "tilezero tmm3", options(nomem, nostack));
        }
        for &offset in runs.offsets {
            let mut left = rows.first.add(offset);
            for _ in 0..runs.units {
                asm!(
                    "tileloadd tmm4, [{left} + {stride}*1]",
                    "tileloadd tmm6, [{right} + {panel}*1]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{right} + {panel}*1 + 64]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    left = in(reg) left,
                    stride = in(reg) 2 * rows.stride,
                    right = in(reg) right,
                    panel = in(reg) PANEL_BYTES,
                    options(nostack, readonly),
                );
                if is_tall {
                    asm!(
                        "tileloadd tmm5, [{left} + {stride}*1]",
                        "tdpbf16ps tmm2, tmm5, tmm6",
                        "tdpbf16ps tmm3, tmm5, tmm7",
                        left = in(reg) left.wrapping_add(ROWS * rows.stride),
                        stride = in(reg) 2 * rows.stride,
                        options(nostack, readonly),
                    );
                }
                left = left.wrapping_add(runs.step);
                right = right.add(ROWS * PANEL_MAX);
            }
        }
        let to = sums.0.as_mut_ptr().cast::<f32>();
        asm!(
            "tilestored [{to} + {panel}*1], tmm0",
            "tilestored [{to} + {panel}*1 + 64], tmm1",
            to = in(reg) to,
            panel = in(reg) PANEL_BYTES,
            options(nostack),
        );
        if is_tall {
            asm!(
                "tilestored [{to} + {panel}*1], tmm2",
                "tilestored [{to} + {panel}*1 + 64], tmm3",
                to = in(reg) to.add(ROWS * PANEL_MAX),
                panel = in(reg) PANEL_BYTES,
                options(nostack),
            );
        }
    }
}

/// Brings a block's rows to their target, finished.
///
/// # Safety
/// The target has its columns in each row.
#[inline(always)]
unsafe fn finish(sums: &Sums, rows: usize, target: Target, last: Last<'_>) {
    for (r, sums) in sums.0.iter().enumerate().take(rows) {
        // SAFETY: as the caller promises.
        let row = unsafe {
            let first = target.first.add(r * target.row_stride);
            std::slice::from_raw_parts_mut(first, target.columns)
        };
        let sums = &sums[..row.len()];
        if target.adds {
            row.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
        } else {
            row.copy_from_slice(sums);
        }
        if let Some(bias) = last.bias {
            row.iter_mut().zip(bias).for_each(|(to, bias)| *to += bias);
        }
        if last.relu {
            // NaN stays NaN.
            row.iter_mut().for_each(|to| *to = if *to < 0.0 { 0.0 } else { *to });
        }
    }
}
