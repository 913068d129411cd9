//! The table of boards: figures only, each with the letter of where it comes from. `_` is unknown.
//!
//! Letters: `R` real hardware, `K` NVIDIA's open kernel modules, `D` NVIDIA's documentation, `P` mig-parted's or the
//! GPU operator's configuration, `M` mocks, `I` inferred, `N` the public list of PCI names, `X` unknown. Of a profile,
//! the letter behind `starts` is also that of `size`, and the one behind the name that of `index` and `slices`.

use super::Provenance::{
    Configuration as P, Documentation as D, Hardware as R, Inferred as I, Kernel as K, Mock as M, PciNames as N,
    Unknown as X,
};
use super::{Board, BoardCompute, BoardProfile, Figure, IdScheme};
use crate::model::geometry::Engines;

/// A figure with its source, or the unknown one.
macro_rules! figure {
    (_) => {
        Figure::UNKNOWN
    };
    ($value:literal $from:ident) => {
        Figure { value: Some($value), from: $from }
    };
}

/// A value that may be unknown.
macro_rules! maybe {
    (_) => {
        None
    };
    ($value:literal) => {
        Some($value)
    };
    ($value:ident) => {
        Some(IdScheme::$value)
    };
    ([$($value:literal),*]) => {
        Some(&[$($value),*])
    };
}

/// A board, row by row.
macro_rules! board {
    (
        id: $id:literal,
        names: [$($name:literal),*] $names_from:ident, legacy: [$($legacy:literal),*],
        architecture: $architecture:literal,
        pci: [$($pci:literal),*] $pci_from:ident,
        memory_mib: $memory:tt $($memory_from:ident)?, slices: $slices:literal, units: $units:tt,
        sm: $sm:tt $($sm_from:ident)?,
        min_driver: $driver:tt $($driver_from:ident)?, needs_reset: $reset:tt, persistent: $persistent:tt,
        ids: $ids:tt,
        note: $note:literal,
        profiles: [$(
            $p_name:literal $p_name_from:ident, index: $p_index:literal, id: $p_id:tt $($p_id_from:ident)?,
            slices: $p_slices:literal,
            size: $p_size:tt, starts: $p_starts:tt $p_starts_from:ident, max: $p_max:literal $p_max_from:ident,
            memory_mib: $p_memory:tt $($p_memory_from:ident)?, sm: $p_sm:tt $($p_sm_from:ident)?,
            engines: [$copy:tt, $decoder:tt, $encoder:tt, $jpeg:tt, $ofa:tt] $engines_from:ident, graphics: $gfx:literal,
            note: $p_note:literal,
            compute: [$(
                $c_name:literal, index: $c_index:literal, slices: $c_slices:literal, max: $c_max:literal $c_from:ident,
                sm: $c_sm:tt $($c_sm_from:ident)?, fills: $fills:tt;
            )*];
        )*],
    ) => {
        Board {
            id: $id,
            names: &[$($name),*],
            names_from: $names_from,
            legacy_names: &[$($legacy),*],
            architecture: $architecture,
            pci_device_ids: &[$($pci),*],
            pci_from: $pci_from,
            memory_total_mib: figure!($memory $($memory_from)?),
            slices: $slices,
            units: maybe!($units),
            multiprocessors: figure!($sm $($sm_from)?),
            min_driver: figure!($driver $($driver_from)?),
            mode_needs_reset: maybe!($reset),
            mode_persistent: maybe!($persistent),
            ids: maybe!($ids),
            note: $note,
            profiles: &[$(BoardProfile {
                name: $p_name,
                name_from: $p_name_from,
                index: $p_index,
                id: figure!($p_id $($p_id_from)?),
                slices: $p_slices,
                size: maybe!($p_size),
                starts: maybe!($p_starts),
                placements_from: $p_starts_from,
                max_instances: $p_max,
                max_from: $p_max_from,
                memory_mib: figure!($p_memory $($p_memory_from)?),
                multiprocessors: figure!($p_sm $($p_sm_from)?),
                engines: Engines {
                    copy: maybe!($copy),
                    decoder: maybe!($decoder),
                    encoder: maybe!($encoder),
                    jpeg: maybe!($jpeg),
                    ofa: maybe!($ofa),
                },
                engines_from: $engines_from,
                graphics: $gfx,
                note: $p_note,
                compute: &[$(BoardCompute {
                    name: $c_name,
                    index: $c_index,
                    slices: $c_slices,
                    max_instances: $c_max,
                    counts_from: $c_from,
                    multiprocessors: figure!($c_sm $($c_sm_from)?),
                    fills: maybe!($fills),
                }),*],
            }),*],
        }
    };
}

/// Every board.
pub(super) static BOARDS: &[&Board] = &[
    &A30_24GB,
    &A100_40GB,
    &A100_80GB,
    &H100_80GB_SXM,
    &H100_80GB_PCIE,
    &H100_NVL_94GB,
    &H100_64GB,
    &GH200_96GB,
    &H100_96GB,
    &H20_96GB,
    &H20_3E_141GB,
    &GH200_144GB,
    &H200_141GB,
    &B200_180GB,
    &GB200_186GB,
    &B300_269GB,
    &GB300_278GB,
    &RTX_PRO_6000_BLACKWELL,
    &RTX_PRO_6000D,
    &RTX_PRO_5000_BLACKWELL_48GB,
    &RTX_PRO_4500_BLACKWELL_32GB,
];

static A30_24GB: Board = board! {
    id: "a30-24gb",
    names: ["NVIDIA A30"] K, legacy: ["NVIDIA A30-PCIE-24GB"],
    architecture: "Ampere",
    pci: [0x20b7] K,
    memory_mib: 24576 M, slices: 4, units: 4, sm: 56 R,
    min_driver: "460.73.01" D, needs_reset: true, persistent: true, ids: Tree4,
    note: "",
    profiles: [
        "1g.6gb" R, index: 0, id: 14 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3] R, max: 4 R,
            memory_mib: 5952 R, sm: 14 R, engines: [1, 1, 0, 0, 0] R, graphics: false,
            note: "real lgip transcript prints DEC 1; NVIDIA docs table and go-nvml mock say 0; also reported: decoders 0 (D), decoders 0 (M), memory_mib 5836 (M)",
            compute: [
                "1g.6gb", index: 0, slices: 1, max: 1 M, sm: 14 M, fills: true;
            ];
        "1g.6gb+me" R, index: 7, id: 21 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3] R, max: 1 R,
            memory_mib: 5952 R, sm: 14 R, engines: [1, 1, 0, 1, 1] R, graphics: false,
            note: "needs R470+; also reported: memory_mib 5836 (M)",
            compute: [
                "1g.6gb+me", index: 0, slices: 1, max: 1 M, sm: 14 M, fills: true;
            ];
        "2g.12gb" R, index: 1, id: 5 R, slices: 2,
            size: 2, starts: [0, 2] R, max: 2 R,
            memory_mib: 11968 R, sm: 28 R, engines: [2, 2, 0, 0, 0] R, graphics: false,
            note: "also reported: memory_mib 11672 (M)",
            compute: [
                "1c.2g.12gb", index: 0, slices: 1, max: 2 M, sm: 14 M, fills: false;
                "2g.12gb", index: 1, slices: 2, max: 1 M, sm: 28 M, fills: true;
            ];
        "2g.12gb+me" R, index: 8, id: 6 R, slices: 2,
            size: 2, starts: [0, 2] R, max: 1 R,
            memory_mib: 11968 R, sm: 28 R, engines: [2, 2, 0, 1, 1] R, graphics: false,
            note: "needs R525+; also reported: memory_mib 11672 (M)",
            compute: [
                "1c.2g.12gb+me", index: 0, slices: 1, max: 2 M, sm: 14 M, fills: false;
                "2g.12gb+me", index: 1, slices: 2, max: 1 M, sm: 28 M, fills: true;
            ];
        "4g.24gb" R, index: 3, id: 0 R, slices: 4,
            size: 4, starts: [0] R, max: 1 R,
            memory_mib: 24000 R, sm: 56 R, engines: [4, 4, 0, 1, 1] R, graphics: false,
            note: "also reported: memory_gib_printed 23.5 (R), memory_mib 23344 (M)",
            compute: [
                "1c.4g.24gb", index: 0, slices: 1, max: 4 M, sm: 14 M, fills: false;
                "2c.4g.24gb", index: 1, slices: 2, max: 2 M, sm: 28 M, fills: false;
                "4g.24gb", index: 3, slices: 4, max: 1 M, sm: 56 M, fills: true;
            ];
    ],
};

static A100_40GB: Board = board! {
    id: "a100-40gb",
    names: ["NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB", "NVIDIA A800-SXM4-40GB", "NVIDIA A800 40GB Active"] K, legacy: ["A100-SXM4-40GB"],
    architecture: "Ampere",
    pci: [0x20b0, 0x20b1, 0x20f1, 0x20f6, 0x20bd] K,
    memory_mib: 40960 M, slices: 7, units: 8, sm: 108 R,
    min_driver: "450.80.02" D, needs_reset: true, persistent: true, ids: Tree8,
    note: "7g exposes only 98",
    profiles: [
        "1g.5gb" R, index: 0, id: 19 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] R, max: 7 R,
            memory_mib: 4864 R, sm: 14 R, engines: [1, 0, 0, 0, 0] R, graphics: false,
            note: "also reported: memory_mib 4864 (M)",
            compute: [
                "1g.5gb", index: 0, slices: 1, max: 1 R, sm: 14 M, fills: true;
            ];
        "1g.5gb+me" R, index: 7, id: 20 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] R, max: 1 R,
            memory_mib: 4864 R, sm: 14 R, engines: [1, 1, 0, 1, 1] R, graphics: false,
            note: "needs R470+; also reported: memory_mib 4864 (M)",
            compute: [
                "1g.5gb+me", index: 0, slices: 1, max: 1 R, sm: 14 M, fills: true;
            ];
        "1g.10gb" R, index: 9, id: 15 R, slices: 1,
            size: 2, starts: [0, 2, 4, 6] R, max: 4 R,
            memory_mib: 9984 R, sm: 14 R, engines: [1, 1, 0, 0, 0] R, graphics: false,
            note: "needs R525+; also reported: memory_gib_printed 9.62 (R), memory_mib 9856 (M)",
            compute: [
                "1g.10gb", index: 0, slices: 1, max: 1 M, sm: 14 M, fills: _;
                "1g.10gb", index: 7, slices: 1, max: 1 M, sm: 14 M, fills: _;
            ];
        "2g.10gb" R, index: 1, id: 14 R, slices: 2,
            size: 2, starts: [0, 2, 4] R, max: 3 R,
            memory_mib: 9984 R, sm: 28 R, engines: [2, 1, 0, 0, 0] R, graphics: false,
            note: "also reported: memory_gib_printed 9.62 (R), memory_mib 9856 (M)",
            compute: [
                "1c.2g.10gb", index: 0, slices: 1, max: 2 M, sm: 14 M, fills: false;
                "2g.10gb", index: 1, slices: 2, max: 1 M, sm: 28 M, fills: true;
            ];
        "3g.20gb" R, index: 2, id: 9 R, slices: 3,
            size: 4, starts: [0, 4] R, max: 2 R,
            memory_mib: 20096 R, sm: 42 R, engines: [3, 2, 0, 0, 0] R, graphics: false,
            note: "also reported: memory_gib_printed 19.5 (R), memory_mib 19968 (M)",
            compute: [
                "1c.3g.20gb", index: 0, slices: 1, max: 3 R, sm: 14 R, fills: false;
                "2c.3g.20gb", index: 1, slices: 2, max: 1 R, sm: 28 R, fills: false;
                "3g.20gb", index: 2, slices: 3, max: 1 R, sm: 42 R, fills: true;
            ];
        "4g.20gb" R, index: 3, id: 5 R, slices: 4,
            size: 4, starts: [0] R, max: 1 R,
            memory_mib: 20096 R, sm: 56 R, engines: [4, 2, 0, 0, 0] R, graphics: false,
            note: "also reported: memory_gib_printed 19.5 (R), memory_mib 19968 (M)",
            compute: [
                "1c.4g.20gb", index: 0, slices: 1, max: 4 R, sm: 14 R, fills: false;
                "2c.4g.20gb", index: 1, slices: 2, max: 2 R, sm: 28 R, fills: false;
                "4g.20gb", index: 3, slices: 4, max: 1 R, sm: 56 R, fills: true;
            ];
        "7g.40gb" R, index: 4, id: 0 R, slices: 7,
            size: 8, starts: [0] R, max: 1 R,
            memory_mib: 40320 R, sm: 98 R, engines: [7, 5, 0, 1, 1] R, graphics: false,
            note: "also reported: memory_gib_printed 39.25 (R), memory_gib_printed 39.5 (R), memory_mib 40192 (M)",
            compute: [
                "1c.7g.40gb", index: 0, slices: 1, max: 7 M, sm: 14 M, fills: false;
                "2c.7g.40gb", index: 1, slices: 2, max: 3 M, sm: 28 M, fills: false;
                "3c.7g.40gb", index: 2, slices: 3, max: 2 M, sm: 42 M, fills: false;
                "4c.7g.40gb", index: 3, slices: 4, max: 1 M, sm: 56 M, fills: false;
                "7g.40gb", index: 4, slices: 7, max: 1 M, sm: 98 M, fills: true;
            ];
    ],
};

static A100_80GB: Board = board! {
    id: "a100-80gb",
    names: ["NVIDIA A100-SXM4-80GB", "NVIDIA A100 80GB PCIe", "NVIDIA A800-SXM4-80GB", "NVIDIA A800 80GB PCIe", "NVIDIA A800 80GB PCIe LC"] K, legacy: [],
    architecture: "Ampere",
    pci: [0x20b2, 0x20b5, 0x20f3, 0x20f5] K,
    memory_mib: 81920 R, slices: 7, units: 8, sm: 108 I,
    min_driver: "450.80.02" D, needs_reset: true, persistent: true, ids: Tree8,
    note: "",
    profiles: [
        "1g.10gb" R, index: 0, id: 19 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] R, max: 7 R,
            memory_mib: 9728 R, sm: 14 R, engines: [1, 0, 0, 0, 0] R, graphics: false,
            note: "also reported: memory_mib 9856 (M), decoders 1 (M)",
            compute: [
                "1g.10gb", index: 0, slices: 1, max: 1 R, sm: 14 M, fills: true;
            ];
        "1g.10gb+me" R, index: 7, id: 20 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] R, max: 1 R,
            memory_mib: 9728 R, sm: 14 R, engines: [1, 1, 0, 1, 1] R, graphics: false,
            note: "also reported: memory_mib 9856 (M)",
            compute: [
                "1g.10gb+me", index: 0, slices: 1, max: 1 R, sm: 14 M, fills: true;
            ];
        "1g.20gb" R, index: 9, id: 15 R, slices: 1,
            size: 2, starts: [0, 2, 4, 6] R, max: 4 R,
            memory_mib: 19968 R, sm: 14 R, engines: [1, 1, 0, 0, 0] R, graphics: false,
            note: "needs R525+; also reported: memory_mib 19968 (M)",
            compute: [
                "1g.20gb", index: 0, slices: 1, max: 1 M, sm: 14 M, fills: _;
                "1g.20gb", index: 7, slices: 1, max: 1 M, sm: 14 M, fills: _;
            ];
        "2g.20gb" R, index: 1, id: 14 R, slices: 2,
            size: 2, starts: [0, 2, 4] R, max: 3 R,
            memory_mib: 19968 R, sm: 28 R, engines: [2, 1, 0, 0, 0] R, graphics: false,
            note: "also reported: memory_mib 19968 (M)",
            compute: [
                "1c.2g.20gb", index: 0, slices: 1, max: 2 M, sm: 14 M, fills: false;
                "2g.20gb", index: 1, slices: 2, max: 1 M, sm: 28 M, fills: true;
            ];
        "3g.40gb" R, index: 2, id: 9 R, slices: 3,
            size: 4, starts: [0, 4] R, max: 2 R,
            memory_mib: 40192 R, sm: 42 R, engines: [3, 2, 0, 0, 0] R, graphics: false,
            note: "also reported: memory_gib_printed 39.5 (R), memory_mib 40192 (M)",
            compute: [
                "1c.3g.40gb", index: 0, slices: 1, max: 3 R, sm: 14 R, fills: false;
                "2c.3g.40gb", index: 1, slices: 2, max: 1 R, sm: 28 R, fills: false;
                "3g.40gb", index: 2, slices: 3, max: 1 R, sm: 42 R, fills: true;
            ];
        "4g.40gb" R, index: 3, id: 5 R, slices: 4,
            size: 4, starts: [0] R, max: 1 R,
            memory_mib: 40192 R, sm: 56 R, engines: [4, 2, 0, 0, 0] R, graphics: false,
            note: "also reported: memory_gib_printed 39.5 (R), memory_mib 40192 (M)",
            compute: [
                "1c.4g.40gb", index: 0, slices: 1, max: 4 R, sm: 14 R, fills: false;
                "2c.4g.40gb", index: 1, slices: 2, max: 2 R, sm: 28 R, fills: false;
                "4g.40gb", index: 3, slices: 4, max: 1 R, sm: 56 R, fills: true;
            ];
        "7g.80gb" R, index: 4, id: 0 R, slices: 7,
            size: 8, starts: [0] R, max: 1 R,
            memory_mib: 80896 R, sm: 98 R, engines: [7, 5, 0, 1, 1] R, graphics: false,
            note: "also reported: memory_gib_printed 79.25 (R), memory_gib_printed 78.5 (R), memory_mib 80384 (M)",
            compute: [
                "1c.7g.80gb", index: 0, slices: 1, max: 7 M, sm: 14 M, fills: false;
                "2c.7g.80gb", index: 1, slices: 2, max: 3 M, sm: 28 M, fills: false;
                "3c.7g.80gb", index: 2, slices: 3, max: 2 M, sm: 42 M, fills: false;
                "4c.7g.80gb", index: 3, slices: 4, max: 1 M, sm: 56 M, fills: false;
                "7g.80gb", index: 4, slices: 7, max: 1 M, sm: 98 M, fills: true;
            ];
    ],
};

static H100_80GB_SXM: Board = board! {
    id: "h100-80gb-sxm",
    names: ["NVIDIA H100 80GB HBM3", "NVIDIA H800"] K, legacy: [],
    architecture: "Hopper",
    pci: [0x2330, 0x2336, 0x2324] K,
    memory_mib: 81559 R, slices: 7, units: 8, sm: 132 R,
    min_driver: "525.85.12" D, needs_reset: false, persistent: false, ids: Tree8,
    note: "H800 assumed identical geometry (K lists the same seven partition types); its SM/memory numbers not captured",
    profiles: [
        "1g.10gb" R, index: 0, id: 19 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] R, max: 7 R,
            memory_mib: 9984 R, sm: 16 R, engines: [1, 1, 0, 1, 0] R, graphics: false,
            note: "",
            compute: [
                "1g.10gb", index: 0, slices: 1, max: 1 R, sm: 16 I, fills: true;
            ];
        "1g.10gb+me" R, index: 7, id: 20 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] R, max: 1 R,
            memory_mib: 9984 R, sm: 16 R, engines: [1, 1, 0, 1, 1] R, graphics: false,
            note: "",
            compute: [
                "1g.10gb+me", index: 0, slices: 1, max: 1 R, sm: 16 I, fills: true;
            ];
        "1g.20gb" R, index: 9, id: 15 R, slices: 1,
            size: 2, starts: [0, 2, 4, 6] R, max: 4 R,
            memory_mib: 20096 R, sm: 26 R, engines: [1, 1, 0, 1, 0] R, graphics: false,
            note: "",
            compute: [
                "1g.20gb", index: 7, slices: 1, max: 1 R, sm: 26 I, fills: true;
                "1g.20gb", index: 0, slices: 1, max: 1 I, sm: 16 I, fills: _;
            ];
        "2g.20gb" R, index: 1, id: 14 R, slices: 2,
            size: 2, starts: [0, 2, 4] R, max: 3 R,
            memory_mib: 20096 R, sm: 32 R, engines: [2, 2, 0, 2, 0] R, graphics: false,
            note: "",
            compute: [
                "1c.2g.20gb", index: 0, slices: 1, max: 2 M, sm: _, fills: false;
                "2g.20gb", index: 1, slices: 2, max: 1 M, sm: 32 I, fills: true;
            ];
        "3g.40gb" R, index: 2, id: 9 R, slices: 3,
            size: 4, starts: [0, 4] R, max: 2 R,
            memory_mib: 40448 R, sm: 60 R, engines: [3, 3, 0, 3, 0] R, graphics: false,
            note: "",
            compute: [
                "1c.3g.40gb", index: 0, slices: 1, max: 3 M, sm: _, fills: false;
                "2c.3g.40gb", index: 1, slices: 2, max: 1 M, sm: _, fills: false;
                "3g.40gb", index: 2, slices: 3, max: 1 M, sm: 60 I, fills: true;
            ];
        "4g.40gb" R, index: 3, id: 5 R, slices: 4,
            size: 4, starts: [0] R, max: 1 R,
            memory_mib: 40448 R, sm: 64 R, engines: [4, 4, 0, 4, 0] R, graphics: false,
            note: "",
            compute: [
                "1c.4g.40gb", index: 0, slices: 1, max: 4 M, sm: _, fills: false;
                "2c.4g.40gb", index: 1, slices: 2, max: 2 M, sm: _, fills: false;
                "4g.40gb", index: 3, slices: 4, max: 1 M, sm: 64 I, fills: true;
            ];
        "7g.80gb" R, index: 4, id: 0 R, slices: 7,
            size: 8, starts: [0] R, max: 1 R,
            memory_mib: 81152 R, sm: 132 R, engines: [8, 7, 0, 7, 1] R, graphics: false,
            note: "",
            compute: [
                "1c.7g.80gb", index: 0, slices: 1, max: 7 M, sm: _, fills: false;
                "2c.7g.80gb", index: 1, slices: 2, max: 3 M, sm: _, fills: false;
                "3c.7g.80gb", index: 2, slices: 3, max: 2 M, sm: _, fills: false;
                "4c.7g.80gb", index: 3, slices: 4, max: 1 M, sm: _, fills: false;
                "7g.80gb", index: 4, slices: 7, max: 1 M, sm: 132 I, fills: true;
            ];
    ],
};

static H100_80GB_PCIE: Board = board! {
    id: "h100-80gb-pcie",
    names: ["NVIDIA H100 PCIe", "NVIDIA H800 PCIe"] K, legacy: [],
    architecture: "Hopper",
    pci: [0x2331, 0x2322] K,
    memory_mib: 81559 I, slices: 7, units: 8, sm: 114 R,
    min_driver: "525.85.12" D, needs_reset: false, persistent: false, ids: Tree8,
    note: "dra-driver PR1018 log (H100 PCIe): per-capacity maxima CE 8, DEC 7, ENC 0, JPEG 7, OFA 1, SM 114, memory 85094039552 B = 81152 MiB; largest placement size 8",
    profiles: [
        "1g.10gb" K, index: 0, id: 19 I, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 7 D,
            memory_mib: _, sm: _, engines: [1, 1, 0, 1, 0] D, graphics: false,
            note: "",
            compute: [
                "1g.10gb", index: 0, slices: 1, max: 1 R, sm: _, fills: true;
            ];
        "1g.10gb+me" K, index: 7, id: 20 I, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 1 D,
            memory_mib: _, sm: _, engines: [1, 1, 0, 1, 1] D, graphics: false,
            note: "",
            compute: [
                "1g.10gb+me", index: 0, slices: 1, max: 1 R, sm: _, fills: true;
            ];
        "1g.20gb" K, index: 9, id: 15 I, slices: 1,
            size: 2, starts: [0, 2, 4, 6] I, max: 4 D,
            memory_mib: _, sm: _, engines: [1, 1, 0, 1, 0] D, graphics: false,
            note: "",
            compute: [
                "1g.20gb", index: 7, slices: 1, max: 1 R, sm: _, fills: true;
                "1g.20gb", index: 0, slices: 1, max: 1 I, sm: _, fills: _;
            ];
        "2g.20gb" K, index: 1, id: 14 I, slices: 2,
            size: 2, starts: [0, 2, 4] I, max: 3 D,
            memory_mib: _, sm: _, engines: [2, 2, 0, 2, 0] D, graphics: false,
            note: "",
            compute: [
                "1c.2g.20gb", index: 0, slices: 1, max: 2 M, sm: _, fills: false;
                "2g.20gb", index: 1, slices: 2, max: 1 M, sm: _, fills: true;
            ];
        "3g.40gb" K, index: 2, id: 9 I, slices: 3,
            size: 4, starts: [0, 4] I, max: 2 D,
            memory_mib: _, sm: _, engines: [3, 3, 0, 3, 0] D, graphics: false,
            note: "",
            compute: [
                "1c.3g.40gb", index: 0, slices: 1, max: 3 M, sm: _, fills: false;
                "2c.3g.40gb", index: 1, slices: 2, max: 1 M, sm: _, fills: false;
                "3g.40gb", index: 2, slices: 3, max: 1 M, sm: _, fills: true;
            ];
        "4g.40gb" K, index: 3, id: 5 I, slices: 4,
            size: 4, starts: [0] I, max: 1 D,
            memory_mib: _, sm: _, engines: [4, 4, 0, 4, 0] D, graphics: false,
            note: "",
            compute: [
                "1c.4g.40gb", index: 0, slices: 1, max: 4 M, sm: _, fills: false;
                "2c.4g.40gb", index: 1, slices: 2, max: 2 M, sm: _, fills: false;
                "4g.40gb", index: 3, slices: 4, max: 1 M, sm: _, fills: true;
            ];
        "7g.80gb" K, index: 4, id: 0 I, slices: 7,
            size: 8, starts: [0] I, max: 1 D,
            memory_mib: 81152 R, sm: 114 R, engines: [8, 7, 0, 7, 1] D, graphics: false,
            note: "",
            compute: [
                "1c.7g.80gb", index: 0, slices: 1, max: 7 M, sm: _, fills: false;
                "2c.7g.80gb", index: 1, slices: 2, max: 3 M, sm: _, fills: false;
                "3c.7g.80gb", index: 2, slices: 3, max: 2 M, sm: _, fills: false;
                "4c.7g.80gb", index: 3, slices: 4, max: 1 M, sm: _, fills: false;
                "7g.80gb", index: 4, slices: 7, max: 1 M, sm: 114 I, fills: true;
            ];
    ],
};

static H100_NVL_94GB: Board = board! {
    id: "h100-nvl-94gb",
    names: ["NVIDIA H100 NVL", "NVIDIA H800 NVL", "NVIDIA H100"] K, legacy: [],
    architecture: "Hopper",
    pci: [0x2321, 0x233a, 0x2339] K,
    memory_mib: 95830 R, slices: 7, units: 8, sm: 132 R,
    min_driver: "525.85.12" D, needs_reset: false, persistent: false, ids: Tree8,
    note: "",
    profiles: [
        "1g.12gb" R, index: 0, id: 19 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] R, max: 7 R,
            memory_mib: 11008 R, sm: 16 R, engines: [1, 1, 0, 1, 0] R, graphics: false,
            note: "",
            compute: [
                "1g.12gb", index: 0, slices: 1, max: 1 R, sm: 16 I, fills: true;
            ];
        "1g.12gb+me" R, index: 7, id: 20 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] R, max: 1 R,
            memory_mib: 11008 R, sm: 16 R, engines: [1, 1, 0, 1, 1] R, graphics: false,
            note: "",
            compute: [
                "1g.12gb+me", index: 0, slices: 1, max: 1 R, sm: 16 I, fills: true;
            ];
        "1g.24gb" R, index: 9, id: 15 R, slices: 1,
            size: 2, starts: [0, 2, 4, 6] R, max: 4 R,
            memory_mib: 22144 R, sm: 26 R, engines: [1, 1, 0, 1, 0] R, graphics: false,
            note: "",
            compute: [
                "1g.24gb", index: 7, slices: 1, max: 1 R, sm: 26 I, fills: true;
                "1g.24gb", index: 0, slices: 1, max: 1 I, sm: 16 I, fills: _;
            ];
        "2g.24gb" R, index: 1, id: 14 R, slices: 2,
            size: 2, starts: [0, 2, 4] R, max: 3 R,
            memory_mib: 22144 R, sm: 32 R, engines: [2, 2, 0, 2, 0] R, graphics: false,
            note: "",
            compute: [
                "1c.2g.24gb", index: 0, slices: 1, max: 2 M, sm: _, fills: false;
                "2g.24gb", index: 1, slices: 2, max: 1 M, sm: 32 I, fills: true;
            ];
        "3g.47gb" R, index: 2, id: 9 R, slices: 3,
            size: 4, starts: [0, 4] R, max: 2 R,
            memory_mib: 47488 R, sm: 60 R, engines: [3, 3, 0, 3, 0] R, graphics: false,
            note: "",
            compute: [
                "1c.3g.47gb", index: 0, slices: 1, max: 3 M, sm: _, fills: false;
                "2c.3g.47gb", index: 1, slices: 2, max: 1 M, sm: _, fills: false;
                "3g.47gb", index: 2, slices: 3, max: 1 M, sm: 60 I, fills: true;
            ];
        "4g.47gb" R, index: 3, id: 5 R, slices: 4,
            size: 4, starts: [0] R, max: 1 R,
            memory_mib: 47488 R, sm: 64 R, engines: [4, 4, 0, 4, 0] R, graphics: false,
            note: "",
            compute: [
                "1c.4g.47gb", index: 0, slices: 1, max: 4 M, sm: _, fills: false;
                "2c.4g.47gb", index: 1, slices: 2, max: 2 M, sm: _, fills: false;
                "4g.47gb", index: 3, slices: 4, max: 1 M, sm: 64 I, fills: true;
            ];
        "7g.94gb" R, index: 4, id: 0 R, slices: 7,
            size: 8, starts: [0] R, max: 1 R,
            memory_mib: 95360 R, sm: 132 R, engines: [8, 7, 0, 7, 1] R, graphics: false,
            note: "",
            compute: [
                "1c.7g.94gb", index: 0, slices: 1, max: 7 M, sm: _, fills: false;
                "2c.7g.94gb", index: 1, slices: 2, max: 3 M, sm: _, fills: false;
                "3c.7g.94gb", index: 2, slices: 3, max: 2 M, sm: _, fills: false;
                "4c.7g.94gb", index: 3, slices: 4, max: 1 M, sm: _, fills: false;
                "7g.94gb", index: 4, slices: 7, max: 1 M, sm: 132 I, fills: true;
            ];
    ],
};

static H100_64GB: Board = board! {
    id: "h100-64gb",
    names: [] X, legacy: [],
    architecture: "Hopper",
    pci: [0x2337] K,
    memory_mib: _, slices: 7, units: 8, sm: _,
    min_driver: _, needs_reset: false, persistent: false, ids: Tree8,
    note: "",
    profiles: [
        "1g.8gb" K, index: 0, id: 19 I, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 7 I,
            memory_mib: _, sm: _, engines: [1, 1, 0, 1, 0] I, graphics: false,
            note: "",
            compute: [
                "1g.8gb", index: 0, slices: 1, max: 1 R, sm: _, fills: true;
            ];
        "1g.8gb+me" K, index: 7, id: 20 I, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 1 I,
            memory_mib: _, sm: _, engines: [1, 1, 0, 1, 1] I, graphics: false,
            note: "",
            compute: [
                "1g.8gb+me", index: 0, slices: 1, max: 1 R, sm: _, fills: true;
            ];
        "1g.16gb" K, index: 9, id: 15 I, slices: 1,
            size: 2, starts: [0, 2, 4, 6] I, max: 4 I,
            memory_mib: _, sm: _, engines: [1, 1, 0, 1, 0] I, graphics: false,
            note: "",
            compute: [
                "1g.16gb", index: 7, slices: 1, max: 1 R, sm: _, fills: true;
                "1g.16gb", index: 0, slices: 1, max: 1 I, sm: _, fills: _;
            ];
        "2g.16gb" K, index: 1, id: 14 I, slices: 2,
            size: 2, starts: [0, 2, 4] I, max: 3 I,
            memory_mib: _, sm: _, engines: [2, 2, 0, 2, 0] I, graphics: false,
            note: "",
            compute: [
                "1c.2g.16gb", index: 0, slices: 1, max: 2 M, sm: _, fills: false;
                "2g.16gb", index: 1, slices: 2, max: 1 M, sm: _, fills: true;
            ];
        "3g.32gb" K, index: 2, id: 9 I, slices: 3,
            size: 4, starts: [0, 4] I, max: 2 I,
            memory_mib: _, sm: _, engines: [3, 3, 0, 3, 0] I, graphics: false,
            note: "",
            compute: [
                "1c.3g.32gb", index: 0, slices: 1, max: 3 M, sm: _, fills: false;
                "2c.3g.32gb", index: 1, slices: 2, max: 1 M, sm: _, fills: false;
                "3g.32gb", index: 2, slices: 3, max: 1 M, sm: _, fills: true;
            ];
        "4g.32gb" K, index: 3, id: 5 I, slices: 4,
            size: 4, starts: [0] I, max: 1 I,
            memory_mib: _, sm: _, engines: [4, 4, 0, 4, 0] I, graphics: false,
            note: "",
            compute: [
                "1c.4g.32gb", index: 0, slices: 1, max: 4 M, sm: _, fills: false;
                "2c.4g.32gb", index: 1, slices: 2, max: 2 M, sm: _, fills: false;
                "4g.32gb", index: 3, slices: 4, max: 1 M, sm: _, fills: true;
            ];
        "7g.64gb" K, index: 4, id: 0 I, slices: 7,
            size: 8, starts: [0] I, max: 1 I,
            memory_mib: _, sm: _, engines: [8, 7, 0, 7, 1] I, graphics: false,
            note: "",
            compute: [
                "1c.7g.64gb", index: 0, slices: 1, max: 7 M, sm: _, fills: false;
                "2c.7g.64gb", index: 1, slices: 2, max: 3 M, sm: _, fills: false;
                "3c.7g.64gb", index: 2, slices: 3, max: 2 M, sm: _, fills: false;
                "4c.7g.64gb", index: 3, slices: 4, max: 1 M, sm: _, fills: false;
                "7g.64gb", index: 4, slices: 7, max: 1 M, sm: _, fills: true;
            ];
    ],
};

static GH200_96GB: Board = board! {
    id: "gh200-96gb",
    names: ["NVIDIA GH200 480GB", "NVIDIA GH200 120GB"] K, legacy: [],
    architecture: "Hopper",
    pci: [0x2342] K,
    memory_mib: 97871 R, slices: 7, units: 8, sm: 132 R,
    min_driver: _, needs_reset: false, persistent: false, ids: Tree8,
    note: "",
    profiles: [
        "1g.12gb" R, index: 0, id: 19 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 7 R,
            memory_mib: 11264 R, sm: 16 R, engines: [1, 1, 0, 1, 0] R, graphics: false,
            note: "",
            compute: [
                "1g.12gb", index: 0, slices: 1, max: 1 R, sm: 16 I, fills: true;
            ];
        "1g.12gb+me" R, index: 7, id: 20 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 1 R,
            memory_mib: 11264 R, sm: 16 R, engines: [1, 1, 0, 1, 1] R, graphics: false,
            note: "",
            compute: [
                "1g.12gb+me", index: 0, slices: 1, max: 1 R, sm: 16 I, fills: true;
            ];
        "1g.24gb" R, index: 9, id: 15 R, slices: 1,
            size: 2, starts: [0, 2, 4, 6] I, max: 4 R,
            memory_mib: 23552 R, sm: 26 R, engines: [1, 1, 0, 1, 0] R, graphics: false,
            note: "",
            compute: [
                "1g.24gb", index: 7, slices: 1, max: 1 R, sm: 26 I, fills: true;
                "1g.24gb", index: 0, slices: 1, max: 1 I, sm: 16 I, fills: _;
            ];
        "2g.24gb" R, index: 1, id: 14 R, slices: 2,
            size: 2, starts: [0, 2, 4] I, max: 3 R,
            memory_mib: 23552 R, sm: 32 R, engines: [2, 2, 0, 2, 0] R, graphics: false,
            note: "",
            compute: [
                "1c.2g.24gb", index: 0, slices: 1, max: 2 M, sm: _, fills: false;
                "2g.24gb", index: 1, slices: 2, max: 1 M, sm: 32 I, fills: true;
            ];
        "3g.48gb" R, index: 2, id: 9 R, slices: 3,
            size: 4, starts: [0, 4] I, max: 2 R,
            memory_mib: 47616 R, sm: 60 R, engines: [3, 3, 0, 3, 0] R, graphics: false,
            note: "",
            compute: [
                "1c.3g.48gb", index: 0, slices: 1, max: 3 M, sm: _, fills: false;
                "2c.3g.48gb", index: 1, slices: 2, max: 1 M, sm: _, fills: false;
                "3g.48gb", index: 2, slices: 3, max: 1 M, sm: 60 I, fills: true;
            ];
        "4g.48gb" R, index: 3, id: 5 R, slices: 4,
            size: 4, starts: [0] I, max: 1 R,
            memory_mib: 47616 R, sm: 64 R, engines: [4, 4, 0, 4, 0] R, graphics: false,
            note: "",
            compute: [
                "1c.4g.48gb", index: 0, slices: 1, max: 4 M, sm: _, fills: false;
                "2c.4g.48gb", index: 1, slices: 2, max: 2 M, sm: _, fills: false;
                "4g.48gb", index: 3, slices: 4, max: 1 M, sm: 64 I, fills: true;
            ];
        "7g.96gb" R, index: 4, id: 0 R, slices: 7,
            size: 8, starts: [0] I, max: 1 R,
            memory_mib: 95232 R, sm: 132 R, engines: [8, 7, 0, 7, 1] R, graphics: false,
            note: "",
            compute: [
                "1c.7g.96gb", index: 0, slices: 1, max: 7 M, sm: _, fills: false;
                "2c.7g.96gb", index: 1, slices: 2, max: 3 M, sm: _, fills: false;
                "3c.7g.96gb", index: 2, slices: 3, max: 2 M, sm: _, fills: false;
                "4c.7g.96gb", index: 3, slices: 4, max: 1 M, sm: _, fills: false;
                "7g.96gb", index: 4, slices: 7, max: 1 M, sm: 132 I, fills: true;
            ];
    ],
};

static H100_96GB: Board = board! {
    id: "h100-96gb",
    names: [] X, legacy: [],
    architecture: "Hopper",
    pci: [0x233d, 0x2338] P,
    memory_mib: _, slices: 7, units: 8, sm: _,
    min_driver: _, needs_reset: false, persistent: false, ids: Tree8,
    note: "",
    profiles: [
        "1g.12gb" D, index: 0, id: 19 I, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 7 D,
            memory_mib: _, sm: _, engines: [1, 1, 0, 1, 0] D, graphics: false,
            note: "",
            compute: [
                "1g.12gb", index: 0, slices: 1, max: 1 R, sm: _, fills: true;
            ];
        "1g.12gb+me" D, index: 7, id: 20 I, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 1 D,
            memory_mib: _, sm: _, engines: [1, 1, 0, 1, 1] D, graphics: false,
            note: "",
            compute: [
                "1g.12gb+me", index: 0, slices: 1, max: 1 R, sm: _, fills: true;
            ];
        "1g.24gb" D, index: 9, id: 15 I, slices: 1,
            size: 2, starts: [0, 2, 4, 6] I, max: 4 D,
            memory_mib: _, sm: _, engines: [1, 1, 0, 1, 0] D, graphics: false,
            note: "",
            compute: [
                "1g.24gb", index: 7, slices: 1, max: 1 R, sm: _, fills: true;
                "1g.24gb", index: 0, slices: 1, max: 1 I, sm: _, fills: _;
            ];
        "2g.24gb" D, index: 1, id: 14 I, slices: 2,
            size: 2, starts: [0, 2, 4] I, max: 3 D,
            memory_mib: _, sm: _, engines: [2, 2, 0, 2, 0] D, graphics: false,
            note: "",
            compute: [
                "1c.2g.24gb", index: 0, slices: 1, max: 2 M, sm: _, fills: false;
                "2g.24gb", index: 1, slices: 2, max: 1 M, sm: _, fills: true;
            ];
        "3g.48gb" D, index: 2, id: 9 I, slices: 3,
            size: 4, starts: [0, 4] I, max: 2 D,
            memory_mib: _, sm: _, engines: [3, 3, 0, 3, 0] D, graphics: false,
            note: "",
            compute: [
                "1c.3g.48gb", index: 0, slices: 1, max: 3 M, sm: _, fills: false;
                "2c.3g.48gb", index: 1, slices: 2, max: 1 M, sm: _, fills: false;
                "3g.48gb", index: 2, slices: 3, max: 1 M, sm: _, fills: true;
            ];
        "4g.48gb" D, index: 3, id: 5 I, slices: 4,
            size: 4, starts: [0] I, max: 1 D,
            memory_mib: _, sm: _, engines: [4, 4, 0, 4, 0] D, graphics: false,
            note: "",
            compute: [
                "1c.4g.48gb", index: 0, slices: 1, max: 4 M, sm: _, fills: false;
                "2c.4g.48gb", index: 1, slices: 2, max: 2 M, sm: _, fills: false;
                "4g.48gb", index: 3, slices: 4, max: 1 M, sm: _, fills: true;
            ];
        "7g.96gb" D, index: 4, id: 0 I, slices: 7,
            size: 8, starts: [0] I, max: 1 D,
            memory_mib: _, sm: _, engines: [8, 7, 0, 7, 1] D, graphics: false,
            note: "",
            compute: [
                "1c.7g.96gb", index: 0, slices: 1, max: 7 M, sm: _, fills: false;
                "2c.7g.96gb", index: 1, slices: 2, max: 3 M, sm: _, fills: false;
                "3c.7g.96gb", index: 2, slices: 3, max: 2 M, sm: _, fills: false;
                "4c.7g.96gb", index: 3, slices: 4, max: 1 M, sm: _, fills: false;
                "7g.96gb", index: 4, slices: 7, max: 1 M, sm: _, fills: true;
            ];
    ],
};

static H20_96GB: Board = board! {
    id: "h20-96gb",
    names: ["NVIDIA H20"] K, legacy: [],
    architecture: "Hopper",
    pci: [0x2329] K,
    memory_mib: 97871 R, slices: 7, units: 8, sm: _,
    min_driver: "535.161.07" D, needs_reset: false, persistent: false, ids: Tree8,
    note: "no real H20 lgip captured; H20 MIG use confirmed by a nvidia-smi transcript with MIG enabled (driver 570.158.01). H20 has fewer SMs than H100 (78, third-party), so SM numbers must NOT be copied from H100",
    profiles: [
        "1g.12gb" K, index: 0, id: 19 I, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 7 I,
            memory_mib: _, sm: _, engines: [1, 1, 0, 1, 0] I, graphics: false,
            note: "",
            compute: [
                "1g.12gb", index: 0, slices: 1, max: 1 R, sm: _, fills: true;
            ];
        "1g.12gb+me" K, index: 7, id: 20 I, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 1 I,
            memory_mib: _, sm: _, engines: [1, 1, 0, 1, 1] I, graphics: false,
            note: "",
            compute: [
                "1g.12gb+me", index: 0, slices: 1, max: 1 R, sm: _, fills: true;
            ];
        "1g.24gb" K, index: 9, id: 15 I, slices: 1,
            size: 2, starts: [0, 2, 4, 6] I, max: 4 I,
            memory_mib: _, sm: _, engines: [1, 1, 0, 1, 0] I, graphics: false,
            note: "",
            compute: [
                "1g.24gb", index: 7, slices: 1, max: 1 R, sm: _, fills: true;
                "1g.24gb", index: 0, slices: 1, max: 1 I, sm: _, fills: _;
            ];
        "2g.24gb" K, index: 1, id: 14 I, slices: 2,
            size: 2, starts: [0, 2, 4] I, max: 3 I,
            memory_mib: _, sm: _, engines: [2, 2, 0, 2, 0] I, graphics: false,
            note: "",
            compute: [
                "1c.2g.24gb", index: 0, slices: 1, max: 2 M, sm: _, fills: false;
                "2g.24gb", index: 1, slices: 2, max: 1 M, sm: _, fills: true;
            ];
        "3g.48gb" K, index: 2, id: 9 I, slices: 3,
            size: 4, starts: [0, 4] I, max: 2 I,
            memory_mib: _, sm: _, engines: [3, 3, 0, 3, 0] I, graphics: false,
            note: "",
            compute: [
                "1c.3g.48gb", index: 0, slices: 1, max: 3 M, sm: _, fills: false;
                "2c.3g.48gb", index: 1, slices: 2, max: 1 M, sm: _, fills: false;
                "3g.48gb", index: 2, slices: 3, max: 1 M, sm: _, fills: true;
            ];
        "4g.48gb" K, index: 3, id: 5 I, slices: 4,
            size: 4, starts: [0] I, max: 1 I,
            memory_mib: _, sm: _, engines: [4, 4, 0, 4, 0] I, graphics: false,
            note: "",
            compute: [
                "1c.4g.48gb", index: 0, slices: 1, max: 4 M, sm: _, fills: false;
                "2c.4g.48gb", index: 1, slices: 2, max: 2 M, sm: _, fills: false;
                "4g.48gb", index: 3, slices: 4, max: 1 M, sm: _, fills: true;
            ];
        "7g.96gb" K, index: 4, id: 0 I, slices: 7,
            size: 8, starts: [0] I, max: 1 I,
            memory_mib: _, sm: _, engines: [8, 7, 0, 7, 1] I, graphics: false,
            note: "",
            compute: [
                "1c.7g.96gb", index: 0, slices: 1, max: 7 M, sm: _, fills: false;
                "2c.7g.96gb", index: 1, slices: 2, max: 3 M, sm: _, fills: false;
                "3c.7g.96gb", index: 2, slices: 3, max: 2 M, sm: _, fills: false;
                "4c.7g.96gb", index: 3, slices: 4, max: 1 M, sm: _, fills: false;
                "7g.96gb", index: 4, slices: 7, max: 1 M, sm: _, fills: true;
            ];
    ],
};

static H20_3E_141GB: Board = board! {
    id: "h20-3e-141gb",
    names: ["NVIDIA H20-3e"] K, legacy: [],
    architecture: "Hopper",
    pci: [0x232c] K,
    memory_mib: _, slices: 7, units: 8, sm: _,
    min_driver: _, needs_reset: false, persistent: false, ids: Tree8,
    note: "",
    profiles: [
        "1g.18gb" K, index: 0, id: 19 I, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 7 I,
            memory_mib: _, sm: _, engines: [1, 1, 0, 1, 0] I, graphics: false,
            note: "",
            compute: [
                "1g.18gb", index: 0, slices: 1, max: 1 R, sm: _, fills: true;
            ];
        "1g.18gb+me" K, index: 7, id: 20 I, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 1 I,
            memory_mib: _, sm: _, engines: [1, 1, 0, 1, 1] I, graphics: false,
            note: "",
            compute: [
                "1g.18gb+me", index: 0, slices: 1, max: 1 R, sm: _, fills: true;
            ];
        "1g.35gb" K, index: 9, id: 15 I, slices: 1,
            size: 2, starts: [0, 2, 4, 6] I, max: 4 I,
            memory_mib: _, sm: _, engines: [1, 1, 0, 1, 0] I, graphics: false,
            note: "",
            compute: [
                "1g.35gb", index: 7, slices: 1, max: 1 R, sm: _, fills: true;
                "1g.35gb", index: 0, slices: 1, max: 1 I, sm: _, fills: _;
            ];
        "2g.35gb" K, index: 1, id: 14 I, slices: 2,
            size: 2, starts: [0, 2, 4] I, max: 3 I,
            memory_mib: _, sm: _, engines: [2, 2, 0, 2, 0] I, graphics: false,
            note: "",
            compute: [
                "1c.2g.35gb", index: 0, slices: 1, max: 2 M, sm: _, fills: false;
                "2g.35gb", index: 1, slices: 2, max: 1 M, sm: _, fills: true;
            ];
        "3g.71gb" K, index: 2, id: 9 I, slices: 3,
            size: 4, starts: [0, 4] I, max: 2 I,
            memory_mib: _, sm: _, engines: [3, 3, 0, 3, 0] I, graphics: false,
            note: "",
            compute: [
                "1c.3g.71gb", index: 0, slices: 1, max: 3 M, sm: _, fills: false;
                "2c.3g.71gb", index: 1, slices: 2, max: 1 M, sm: _, fills: false;
                "3g.71gb", index: 2, slices: 3, max: 1 M, sm: _, fills: true;
            ];
        "4g.71gb" K, index: 3, id: 5 I, slices: 4,
            size: 4, starts: [0] I, max: 1 I,
            memory_mib: _, sm: _, engines: [4, 4, 0, 4, 0] I, graphics: false,
            note: "",
            compute: [
                "1c.4g.71gb", index: 0, slices: 1, max: 4 M, sm: _, fills: false;
                "2c.4g.71gb", index: 1, slices: 2, max: 2 M, sm: _, fills: false;
                "4g.71gb", index: 3, slices: 4, max: 1 M, sm: _, fills: true;
            ];
        "7g.141gb" K, index: 4, id: 0 I, slices: 7,
            size: 8, starts: [0] I, max: 1 I,
            memory_mib: _, sm: _, engines: [8, 7, 0, 7, 1] I, graphics: false,
            note: "",
            compute: [
                "1c.7g.141gb", index: 0, slices: 1, max: 7 M, sm: _, fills: false;
                "2c.7g.141gb", index: 1, slices: 2, max: 3 M, sm: _, fills: false;
                "3c.7g.141gb", index: 2, slices: 3, max: 2 M, sm: _, fills: false;
                "4c.7g.141gb", index: 3, slices: 4, max: 1 M, sm: _, fills: false;
                "7g.141gb", index: 4, slices: 7, max: 1 M, sm: _, fills: true;
            ];
    ],
};

static GH200_144GB: Board = board! {
    id: "gh200-144gb",
    names: ["NVIDIA GH200 144G HBM3e"] K, legacy: [],
    architecture: "Hopper",
    pci: [0x2348] K,
    memory_mib: 146831 R, slices: 7, units: 8, sm: _,
    min_driver: _, needs_reset: false, persistent: false, ids: Tree8,
    note: "",
    profiles: [
        "1g.18gb" R, index: 0, id: 19 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 7 R,
            memory_mib: 17920 R, sm: 16 R, engines: [1, 1, 0, 1, 0] R, graphics: false,
            note: "",
            compute: [
                "1g.18gb", index: 0, slices: 1, max: 1 R, sm: 16 I, fills: true;
            ];
        "1g.18gb+me" R, index: 7, id: 20 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 1 R,
            memory_mib: 17920 R, sm: 16 R, engines: [1, 1, 0, 1, 1] R, graphics: false,
            note: "",
            compute: [
                "1g.18gb+me", index: 0, slices: 1, max: 1 R, sm: 16 I, fills: true;
            ];
        "1g.36gb" R, index: 9, id: 15 R, slices: 1,
            size: 2, starts: [0, 2, 4, 6] I, max: 4 R,
            memory_mib: 36096 R, sm: 26 R, engines: [1, 1, 0, 1, 0] R, graphics: false,
            note: "",
            compute: [
                "1g.36gb", index: 7, slices: 1, max: 1 R, sm: 26 I, fills: true;
                "1g.36gb", index: 0, slices: 1, max: 1 I, sm: 16 I, fills: _;
            ];
        "2g.36gb" R, index: 1, id: 14 R, slices: 2,
            size: 2, starts: [0, 2, 4] I, max: 3 R,
            memory_mib: 36096 R, sm: 32 R, engines: [2, 2, 0, 2, 0] R, graphics: false,
            note: "",
            compute: [
                "1c.2g.36gb", index: 0, slices: 1, max: 2 M, sm: _, fills: false;
                "2g.36gb", index: 1, slices: 2, max: 1 M, sm: 32 I, fills: true;
            ];
        "3g.72gb" K, index: 2, id: 9 I, slices: 3,
            size: 4, starts: [0, 4] I, max: 2 P,
            memory_mib: _, sm: _, engines: [3, 3, 0, 3, 0] I, graphics: false,
            note: "",
            compute: [
                "1c.3g.72gb", index: 0, slices: 1, max: 3 M, sm: _, fills: false;
                "2c.3g.72gb", index: 1, slices: 2, max: 1 M, sm: _, fills: false;
                "3g.72gb", index: 2, slices: 3, max: 1 M, sm: _, fills: true;
            ];
        "4g.72gb" K, index: 3, id: 5 I, slices: 4,
            size: 4, starts: [0] I, max: 1 P,
            memory_mib: _, sm: _, engines: [4, 4, 0, 4, 0] I, graphics: false,
            note: "",
            compute: [
                "1c.4g.72gb", index: 0, slices: 1, max: 4 M, sm: _, fills: false;
                "2c.4g.72gb", index: 1, slices: 2, max: 2 M, sm: _, fills: false;
                "4g.72gb", index: 3, slices: 4, max: 1 M, sm: _, fills: true;
            ];
        "7g.144gb" K, index: 4, id: 0 I, slices: 7,
            size: 8, starts: [0] I, max: 1 P,
            memory_mib: _, sm: _, engines: [8, 7, 0, 7, 1] I, graphics: false,
            note: "",
            compute: [
                "1c.7g.144gb", index: 0, slices: 1, max: 7 M, sm: _, fills: false;
                "2c.7g.144gb", index: 1, slices: 2, max: 3 M, sm: _, fills: false;
                "3c.7g.144gb", index: 2, slices: 3, max: 2 M, sm: _, fills: false;
                "4c.7g.144gb", index: 3, slices: 4, max: 1 M, sm: _, fills: false;
                "7g.144gb", index: 4, slices: 7, max: 1 M, sm: _, fills: true;
            ];
    ],
};

static H200_141GB: Board = board! {
    id: "h200-141gb",
    names: ["NVIDIA H200", "NVIDIA H200 NVL"] K, legacy: [],
    architecture: "Hopper",
    pci: [0x2335, 0x233b] K,
    memory_mib: 143771 R, slices: 7, units: 8, sm: 132 R,
    min_driver: "550.90.07" D, needs_reset: false, persistent: false, ids: Tree8,
    note: "",
    profiles: [
        "1g.18gb" R, index: 0, id: 19 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 7 R,
            memory_mib: 16384 R, sm: 16 R, engines: [1, 1, 0, 1, 0] R, graphics: false,
            note: "",
            compute: [
                "1g.18gb", index: 0, slices: 1, max: 1 R, sm: 16 I, fills: true;
            ];
        "1g.18gb+me" R, index: 7, id: 20 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 1 R,
            memory_mib: 16384 R, sm: 16 R, engines: [1, 1, 0, 1, 1] R, graphics: false,
            note: "",
            compute: [
                "1g.18gb+me", index: 0, slices: 1, max: 1 R, sm: 16 I, fills: true;
            ];
        "1g.35gb" R, index: 9, id: 15 R, slices: 1,
            size: 2, starts: [0, 2, 4, 6] I, max: 4 R,
            memory_mib: 33024 R, sm: 26 R, engines: [1, 1, 0, 1, 0] R, graphics: false,
            note: "",
            compute: [
                "1g.35gb", index: 7, slices: 1, max: 1 R, sm: 26 I, fills: true;
                "1g.35gb", index: 0, slices: 1, max: 1 I, sm: 16 I, fills: _;
            ];
        "2g.35gb" R, index: 1, id: 14 R, slices: 2,
            size: 2, starts: [0, 2, 4] I, max: 3 R,
            memory_mib: 33024 R, sm: 32 R, engines: [2, 2, 0, 2, 0] R, graphics: false,
            note: "also reported: memory_gib_printed 32.5 (R)",
            compute: [
                "1c.2g.35gb", index: 0, slices: 1, max: 2 M, sm: _, fills: false;
                "2g.35gb", index: 1, slices: 2, max: 1 M, sm: 32 I, fills: true;
            ];
        "3g.71gb" R, index: 2, id: 9 R, slices: 3,
            size: 4, starts: [0, 4] I, max: 2 R,
            memory_mib: 71168 R, sm: 60 R, engines: [3, 3, 0, 3, 0] R, graphics: false,
            note: "",
            compute: [
                "1c.3g.71gb", index: 0, slices: 1, max: 3 M, sm: _, fills: false;
                "2c.3g.71gb", index: 1, slices: 2, max: 1 M, sm: _, fills: false;
                "3g.71gb", index: 2, slices: 3, max: 1 M, sm: 60 I, fills: true;
            ];
        "4g.71gb" R, index: 3, id: 5 R, slices: 4,
            size: 4, starts: [0] I, max: 1 R,
            memory_mib: 71168 R, sm: 64 R, engines: [4, 4, 0, 4, 0] R, graphics: false,
            note: "",
            compute: [
                "1c.4g.71gb", index: 0, slices: 1, max: 4 M, sm: _, fills: false;
                "2c.4g.71gb", index: 1, slices: 2, max: 2 M, sm: _, fills: false;
                "4g.71gb", index: 3, slices: 4, max: 1 M, sm: 64 I, fills: true;
            ];
        "7g.141gb" R, index: 4, id: 0 R, slices: 7,
            size: 8, starts: [0] I, max: 1 R,
            memory_mib: 143104 R, sm: 132 R, engines: [8, 7, 0, 7, 1] R, graphics: false,
            note: "also reported: memory_gib_printed 140.0 (R)",
            compute: [
                "1c.7g.141gb", index: 0, slices: 1, max: 7 M, sm: _, fills: false;
                "2c.7g.141gb", index: 1, slices: 2, max: 3 M, sm: _, fills: false;
                "3c.7g.141gb", index: 2, slices: 3, max: 2 M, sm: _, fills: false;
                "4c.7g.141gb", index: 3, slices: 4, max: 1 M, sm: _, fills: false;
                "7g.141gb", index: 4, slices: 7, max: 1 M, sm: 132 I, fills: true;
            ];
    ],
};

static B200_180GB: Board = board! {
    id: "b200-180gb",
    names: ["NVIDIA B200"] K, legacy: [],
    architecture: "Blackwell",
    pci: [0x2901] K,
    memory_mib: 183359 R, slices: 7, units: 8, sm: 148 R,
    min_driver: "570.133.20" D, needs_reset: false, persistent: false, ids: Tree8,
    note: "",
    profiles: [
        "1g.23gb" R, index: 0, id: 19 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 7 R,
            memory_mib: 22528 R, sm: 18 R, engines: [2, 1, 0, 1, 0] R, graphics: false,
            note: "also reported: memory_gib_printed 20.5 (R)",
            compute: [
                "1g.23gb", index: 0, slices: 1, max: 1 M, sm: 18 I, fills: true;
            ];
        "1g.23gb+me" R, index: 7, id: 20 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 1 R,
            memory_mib: 22528 R, sm: 18 R, engines: [2, 1, 0, 1, 1] R, graphics: false,
            note: "also reported: memory_gib_printed 20.5 (R)",
            compute: [
                "1g.23gb+me", index: 0, slices: 1, max: 1 M, sm: 18 I, fills: true;
            ];
        "1g.45gb" R, index: 9, id: 15 R, slices: 1,
            size: 2, starts: [0, 2, 4, 6] I, max: 4 R,
            memory_mib: 45312 R, sm: 30 R, engines: [2, 1, 0, 1, 0] R, graphics: false,
            note: "",
            compute: [
                "1g.45gb", index: 7, slices: 1, max: 1 I, sm: 30 I, fills: true;
                "1g.45gb", index: 0, slices: 1, max: 1 I, sm: 18 I, fills: _;
            ];
        "2g.45gb" R, index: 1, id: 14 R, slices: 2,
            size: 2, starts: [0, 2, 4] I, max: 3 R,
            memory_mib: 45312 R, sm: 36 R, engines: [4, 2, 0, 2, 0] R, graphics: false,
            note: "also reported: copy_engines 3 (D), decoders 1 (D)",
            compute: [
                "1c.2g.45gb", index: 0, slices: 1, max: 2 M, sm: _, fills: false;
                "2g.45gb", index: 1, slices: 2, max: 1 M, sm: 36 I, fills: true;
            ];
        "3g.90gb" K, index: 2, id: 9 I, slices: 3,
            size: 4, starts: [0, 4] I, max: 2 D,
            memory_mib: _, sm: _, engines: [6, _, 0, _, 0] D, graphics: false,
            note: "also reported: memory_mib 92160 (M), sm 54 (M), decoders 1 (D), jpeg 1 (D)",
            compute: [
                "1c.3g.90gb", index: 0, slices: 1, max: 3 M, sm: _, fills: false;
                "2c.3g.90gb", index: 1, slices: 2, max: 1 M, sm: _, fills: false;
                "3g.90gb", index: 2, slices: 3, max: 1 M, sm: _, fills: true;
            ];
        "4g.90gb" K, index: 3, id: 5 I, slices: 4,
            size: 4, starts: [0] I, max: 1 D,
            memory_mib: _, sm: _, engines: [8, _, 0, _, 0] D, graphics: false,
            note: "also reported: memory_mib 92160 (M), sm 72 (M), decoders 1 (D), jpeg 1 (D)",
            compute: [
                "1c.4g.90gb", index: 0, slices: 1, max: 4 M, sm: _, fills: false;
                "2c.4g.90gb", index: 1, slices: 2, max: 2 M, sm: _, fills: false;
                "4g.90gb", index: 3, slices: 4, max: 1 M, sm: _, fills: true;
            ];
        "7g.180gb" K, index: 4, id: 0 I, slices: 7,
            size: 8, starts: [0] I, max: 1 D,
            memory_mib: _, sm: _, engines: [16, _, 0, _, 1] D, graphics: false,
            note: "also reported: memory_mib 184320 (M), sm 126 (M), decoders 1 (D), jpeg 1 (D)",
            compute: [
                "1c.7g.180gb", index: 0, slices: 1, max: 7 M, sm: _, fills: false;
                "2c.7g.180gb", index: 1, slices: 2, max: 3 M, sm: _, fills: false;
                "3c.7g.180gb", index: 2, slices: 3, max: 2 M, sm: _, fills: false;
                "4c.7g.180gb", index: 3, slices: 4, max: 1 M, sm: _, fills: false;
                "7g.180gb", index: 4, slices: 7, max: 1 M, sm: _, fills: true;
            ];
    ],
};

static GB200_186GB: Board = board! {
    id: "gb200-186gb",
    names: ["NVIDIA GB200"] K, legacy: [],
    architecture: "Blackwell",
    pci: [0x2941] K,
    memory_mib: 189471 R, slices: 7, units: 8, sm: _,
    min_driver: "570.133.20" D, needs_reset: false, persistent: false, ids: Tree8,
    note: "profile names differ between boards/drivers: 1g.24gb..7g.189gb (vGPU type table, early boards) vs 1g.23gb..7g.186gb (mig-parted, production). mig-parted#227. Never hard-code, read NVML names.",
    profiles: [
        "1g.23gb" R, index: 0, id: 19 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 7 R,
            memory_mib: 22528 R, sm: 18 R, engines: [2, 1, 0, 1, 0] R, graphics: false,
            note: "also reported: name 1g.24gb (R)",
            compute: [
                "1g.23gb", index: 0, slices: 1, max: 1 M, sm: 18 I, fills: true;
            ];
        "1g.23gb+me" R, index: 7, id: 20 R, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 1 R,
            memory_mib: 22528 R, sm: 18 R, engines: [2, 1, 0, 1, 1] R, graphics: false,
            note: "also reported: name 1g.24gb+me (R)",
            compute: [
                "1g.23gb+me", index: 0, slices: 1, max: 1 M, sm: 18 I, fills: true;
            ];
        "1g.47gb" R, index: 9, id: 15 R, slices: 1,
            size: 2, starts: [0, 2, 4, 6] I, max: 4 R,
            memory_mib: 46592 R, sm: 32 R, engines: [2, 1, 0, 1, 0] R, graphics: false,
            note: "",
            compute: [
                "1g.47gb", index: 7, slices: 1, max: 1 I, sm: 32 I, fills: true;
                "1g.47gb", index: 0, slices: 1, max: 1 I, sm: 18 I, fills: _;
            ];
        "2g.47gb" R, index: 1, id: 14 R, slices: 2,
            size: 2, starts: [0, 2, 4] I, max: 3 R,
            memory_mib: 46592 R, sm: 38 R, engines: [4, 2, 0, 2, 0] R, graphics: false,
            note: "",
            compute: [
                "1c.2g.47gb", index: 0, slices: 1, max: 2 M, sm: _, fills: false;
                "2g.47gb", index: 1, slices: 2, max: 1 M, sm: 38 I, fills: true;
            ];
        "3g.93gb" P, index: 2, id: 9 I, slices: 3,
            size: 4, starts: [0, 4] I, max: 2 P,
            memory_mib: _, sm: _, engines: [6, _, 0, _, 0] I, graphics: false,
            note: "also reported: name 3g.95gb (K), memory_mib 95232 (M), sm 54 (M)",
            compute: [
                "1c.3g.93gb", index: 0, slices: 1, max: 3 M, sm: _, fills: false;
                "2c.3g.93gb", index: 1, slices: 2, max: 1 M, sm: _, fills: false;
                "3g.93gb", index: 2, slices: 3, max: 1 M, sm: _, fills: true;
            ];
        "4g.93gb" P, index: 3, id: 5 I, slices: 4,
            size: 4, starts: [0] I, max: 1 P,
            memory_mib: _, sm: _, engines: [8, _, 0, _, 0] I, graphics: false,
            note: "also reported: name 4g.95gb (K), memory_mib 95232 (M), sm 72 (M)",
            compute: [
                "1c.4g.93gb", index: 0, slices: 1, max: 4 M, sm: _, fills: false;
                "2c.4g.93gb", index: 1, slices: 2, max: 2 M, sm: _, fills: false;
                "4g.93gb", index: 3, slices: 4, max: 1 M, sm: _, fills: true;
            ];
        "7g.186gb" P, index: 4, id: 0 I, slices: 7,
            size: 8, starts: [0] I, max: 1 P,
            memory_mib: _, sm: _, engines: [16, _, 0, _, 1] I, graphics: false,
            note: "also reported: name 7g.189gb (K), memory_mib 190464 (M), sm 126 (M)",
            compute: [
                "1c.7g.186gb", index: 0, slices: 1, max: 7 M, sm: _, fills: false;
                "2c.7g.186gb", index: 1, slices: 2, max: 3 M, sm: _, fills: false;
                "3c.7g.186gb", index: 2, slices: 3, max: 2 M, sm: _, fills: false;
                "4c.7g.186gb", index: 3, slices: 4, max: 1 M, sm: _, fills: false;
                "7g.186gb", index: 4, slices: 7, max: 1 M, sm: _, fills: true;
            ];
    ],
};

static B300_269GB: Board = board! {
    id: "b300-269gb",
    names: ["NVIDIA B300 SXM6 AC"] K, legacy: [],
    architecture: "Blackwell",
    pci: [0x3182] K,
    memory_mib: 275040 R, slices: 7, units: 8, sm: _,
    min_driver: "580.82.07" D, needs_reset: false, persistent: false, ids: Tree8,
    note: "",
    profiles: [
        "1g.34gb" K, index: 0, id: 19 I, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 7 P,
            memory_mib: _, sm: _, engines: [2, 1, 0, 1, 0] I, graphics: false,
            note: "",
            compute: [
                "1g.34gb", index: 0, slices: 1, max: 1 M, sm: _, fills: true;
            ];
        "1g.34gb+me" K, index: 7, id: 20 I, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 1 P,
            memory_mib: _, sm: _, engines: [2, 1, 0, 1, 1] I, graphics: false,
            note: "",
            compute: [
                "1g.34gb+me", index: 0, slices: 1, max: 1 M, sm: _, fills: true;
            ];
        "1g.67gb" K, index: 9, id: 15 I, slices: 1,
            size: 2, starts: [0, 2, 4, 6] I, max: 4 P,
            memory_mib: _, sm: _, engines: [2, 1, 0, 1, 0] I, graphics: false,
            note: "",
            compute: [
                "1g.67gb", index: 7, slices: 1, max: 1 I, sm: _, fills: true;
                "1g.67gb", index: 0, slices: 1, max: 1 I, sm: _, fills: _;
            ];
        "2g.67gb" K, index: 1, id: 14 I, slices: 2,
            size: 2, starts: [0, 2, 4] I, max: 3 P,
            memory_mib: _, sm: _, engines: [4, 2, 0, 2, 0] I, graphics: false,
            note: "",
            compute: [
                "1c.2g.67gb", index: 0, slices: 1, max: 2 M, sm: _, fills: false;
                "2g.67gb", index: 1, slices: 2, max: 1 M, sm: _, fills: true;
            ];
        "3g.135gb" K, index: 2, id: 9 I, slices: 3,
            size: 4, starts: [0, 4] I, max: 2 P,
            memory_mib: _, sm: _, engines: [6, _, 0, _, 0] I, graphics: false,
            note: "",
            compute: [
                "1c.3g.135gb", index: 0, slices: 1, max: 3 M, sm: _, fills: false;
                "2c.3g.135gb", index: 1, slices: 2, max: 1 M, sm: _, fills: false;
                "3g.135gb", index: 2, slices: 3, max: 1 M, sm: _, fills: true;
            ];
        "4g.135gb" K, index: 3, id: 5 I, slices: 4,
            size: 4, starts: [0] I, max: 1 P,
            memory_mib: _, sm: _, engines: [8, _, 0, _, 0] I, graphics: false,
            note: "",
            compute: [
                "1c.4g.135gb", index: 0, slices: 1, max: 4 M, sm: _, fills: false;
                "2c.4g.135gb", index: 1, slices: 2, max: 2 M, sm: _, fills: false;
                "4g.135gb", index: 3, slices: 4, max: 1 M, sm: _, fills: true;
            ];
        "7g.269gb" K, index: 4, id: 0 I, slices: 7,
            size: 8, starts: [0] I, max: 1 P,
            memory_mib: _, sm: _, engines: [16, _, 0, _, 1] I, graphics: false,
            note: "",
            compute: [
                "1c.7g.269gb", index: 0, slices: 1, max: 7 M, sm: _, fills: false;
                "2c.7g.269gb", index: 1, slices: 2, max: 3 M, sm: _, fills: false;
                "3c.7g.269gb", index: 2, slices: 3, max: 2 M, sm: _, fills: false;
                "4c.7g.269gb", index: 3, slices: 4, max: 1 M, sm: _, fills: false;
                "7g.269gb", index: 4, slices: 7, max: 1 M, sm: _, fills: true;
            ];
    ],
};

static GB300_278GB: Board = board! {
    id: "gb300-278gb",
    names: ["NVIDIA GB300"] K, legacy: [],
    architecture: "Blackwell",
    pci: [0x31c2] K,
    memory_mib: 284208 R, slices: 7, units: 8, sm: _,
    min_driver: "595.58.03" D, needs_reset: false, persistent: false, ids: Tree8,
    note: "minimum driver: 595.58.03 (DGX Station)",
    profiles: [
        "1g.35gb" P, index: 0, id: 19 I, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 7 P,
            memory_mib: _, sm: _, engines: [2, 1, 0, 1, 0] I, graphics: false,
            note: "also reported: memory_mib 35584 (M)",
            compute: [
                "1g.35gb", index: 0, slices: 1, max: 1 M, sm: _, fills: true;
            ];
        "1g.35gb+me" P, index: 7, id: 20 I, slices: 1,
            size: 1, starts: [0, 1, 2, 3, 4, 5, 6] I, max: 1 P,
            memory_mib: _, sm: _, engines: [2, 1, 0, 1, 1] I, graphics: false,
            note: "",
            compute: [
                "1g.35gb+me", index: 0, slices: 1, max: 1 M, sm: _, fills: true;
            ];
        "1g.70gb" P, index: 9, id: 15 I, slices: 1,
            size: 2, starts: [0, 2, 4, 6] I, max: 4 P,
            memory_mib: _, sm: _, engines: [2, 1, 0, 1, 0] I, graphics: false,
            note: "",
            compute: [
                "1g.70gb", index: 7, slices: 1, max: 1 I, sm: _, fills: true;
                "1g.70gb", index: 0, slices: 1, max: 1 I, sm: _, fills: _;
            ];
        "2g.70gb" P, index: 1, id: 14 I, slices: 2,
            size: 2, starts: [0, 2, 4] I, max: 3 P,
            memory_mib: _, sm: _, engines: [4, 2, 0, 2, 0] I, graphics: false,
            note: "",
            compute: [
                "1c.2g.70gb", index: 0, slices: 1, max: 2 M, sm: _, fills: false;
                "2g.70gb", index: 1, slices: 2, max: 1 M, sm: _, fills: true;
            ];
        "3g.139gb" P, index: 2, id: 9 I, slices: 3,
            size: 4, starts: [0, 4] I, max: 2 P,
            memory_mib: _, sm: _, engines: [6, _, 0, _, 0] I, graphics: false,
            note: "",
            compute: [
                "1c.3g.139gb", index: 0, slices: 1, max: 3 M, sm: _, fills: false;
                "2c.3g.139gb", index: 1, slices: 2, max: 1 M, sm: _, fills: false;
                "3g.139gb", index: 2, slices: 3, max: 1 M, sm: _, fills: true;
            ];
        "4g.139gb" P, index: 3, id: 5 I, slices: 4,
            size: 4, starts: [0] I, max: 1 P,
            memory_mib: _, sm: _, engines: [8, _, 0, _, 0] I, graphics: false,
            note: "",
            compute: [
                "1c.4g.139gb", index: 0, slices: 1, max: 4 M, sm: _, fills: false;
                "2c.4g.139gb", index: 1, slices: 2, max: 2 M, sm: _, fills: false;
                "4g.139gb", index: 3, slices: 4, max: 1 M, sm: _, fills: true;
            ];
        "7g.278gb" P, index: 4, id: 0 I, slices: 7,
            size: 8, starts: [0] I, max: 1 P,
            memory_mib: _, sm: _, engines: [16, _, 0, _, 1] I, graphics: false,
            note: "",
            compute: [
                "1c.7g.278gb", index: 0, slices: 1, max: 7 M, sm: _, fills: false;
                "2c.7g.278gb", index: 1, slices: 2, max: 3 M, sm: _, fills: false;
                "3c.7g.278gb", index: 2, slices: 3, max: 2 M, sm: _, fills: false;
                "4c.7g.278gb", index: 3, slices: 4, max: 1 M, sm: _, fills: false;
                "7g.278gb", index: 4, slices: 7, max: 1 M, sm: _, fills: true;
            ];
    ],
};

static RTX_PRO_6000_BLACKWELL: Board = board! {
    id: "rtx-pro-6000-blackwell",
    names: ["NVIDIA RTX PRO 6000 Blackwell Server Edition", "NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition"] K, legacy: [],
    architecture: "Blackwell",
    pci: [0x2bb5, 0x2bb1, 0x2bb4] K,
    memory_mib: 97887 R, slices: 4, units: 12, sm: 188 R,
    min_driver: "575.51.03" D, needs_reset: false, persistent: false, ids: Tree4,
    note: "chip GB202; NVML placement unit is 12 per GPU, NOT 4: {0,3,6,9}:3, {0,6}:6, {0}:12 (real -lgipp/-lgi, Server Edition). Workstation/Max-Q need display mode switched to compute and a minimum vBIOS (98.02.55.00.00 WS, 98.02.6A.00.00 Max-Q).",
    profiles: [
        "1g.24gb" R, index: 0, id: 14 R, slices: 1,
            size: 3, starts: [0, 3, 6, 9] R, max: 4 R,
            memory_mib: 24192 R, sm: 46 R, engines: [1, 1, 1, 1, 0] R, graphics: false,
            note: "also reported: memory_gib_printed 23.12 (R)",
            compute: [
                "1g.24gb", index: 0, slices: 1, max: 1 R, sm: 46 I, fills: true;
            ];
        "1g.24gb+me" R, index: 7, id: 21 R, slices: 1,
            size: 3, starts: [0, 3, 6, 9] R, max: 1 R,
            memory_mib: 24192 R, sm: 46 R, engines: [1, 1, 1, 1, 1] R, graphics: false,
            note: "also reported: memory_gib_printed 23.12 (R)",
            compute: [
                "1g.24gb+me", index: 0, slices: 1, max: 1 R, sm: 46 I, fills: true;
            ];
        "1g.24gb+gfx" R, index: 10, id: 47 R, slices: 1,
            size: 3, starts: [0, 3, 6, 9] R, max: 4 R,
            memory_mib: 24192 R, sm: 46 R, engines: [1, 1, 1, 1, 0] R, graphics: true,
            note: "also reported: memory_gib_printed 23.12 (R)",
            compute: [
                "1g.24gb+gfx", index: 0, slices: 1, max: 1 R, sm: 46 I, fills: true;
            ];
        "1g.24gb+me.all" R, index: 15, id: 65 R, slices: 1,
            size: 3, starts: [0, 3, 6, 9] R, max: 1 R,
            memory_mib: 24192 R, sm: 46 R, engines: [1, 4, 4, 4, 1] R, graphics: false,
            note: "also reported: memory_gib_printed 23.12 (R)",
            compute: [
                "1g.24gb+me.all", index: 0, slices: 1, max: 1 R, sm: 46 I, fills: true;
            ];
        "1g.24gb-me" R, index: 13, id: 67 R, slices: 1,
            size: 3, starts: [0, 3, 6, 9] R, max: 4 R,
            memory_mib: 24192 R, sm: 46 R, engines: [1, 0, 0, 0, 0] R, graphics: false,
            note: "",
            compute: [
                "1g.24gb-me", index: 0, slices: 1, max: 1 R, sm: 46 I, fills: true;
            ];
        "2g.48gb" R, index: 1, id: 5 R, slices: 2,
            size: 6, starts: [0, 6] R, max: 2 R,
            memory_mib: 48512 R, sm: 94 R, engines: [2, 2, 2, 2, 0] R, graphics: false,
            note: "also reported: memory_gib_printed 46.5 (R)",
            compute: [
                "1c.2g.48gb", index: 0, slices: 1, max: 2 R, sm: 46 R, fills: false;
                "2g.48gb", index: 1, slices: 2, max: 1 R, sm: 94 R, fills: true;
            ];
        "2g.48gb+gfx" R, index: 11, id: 35 R, slices: 2,
            size: 6, starts: [0, 6] R, max: 2 R,
            memory_mib: 48512 R, sm: 94 R, engines: [2, 2, 2, 2, 0] R, graphics: true,
            note: "also reported: memory_gib_printed 46.5 (R)",
            compute: [
                "1c.2g.48gb+gfx", index: 0, slices: 1, max: 2 R, sm: 46 R, fills: false;
                "2g.48gb+gfx", index: 1, slices: 2, max: 1 R, sm: 94 R, fills: true;
            ];
        "2g.48gb+me.all" R, index: 16, id: 64 R, slices: 2,
            size: 6, starts: [0, 6] R, max: 1 R,
            memory_mib: 48512 R, sm: 94 R, engines: [2, 4, 4, 4, 1] R, graphics: false,
            note: "also reported: memory_gib_printed 46.5 (R)",
            compute: [
                "1c.2g.48gb+me.all", index: 0, slices: 1, max: 2 R, sm: 46 R, fills: false;
                "2g.48gb+me.all", index: 1, slices: 2, max: 1 R, sm: 94 R, fills: true;
            ];
        "2g.48gb-me" R, index: 14, id: 66 R, slices: 2,
            size: 6, starts: [0, 6] R, max: 2 R,
            memory_mib: 48512 R, sm: 94 R, engines: [2, 0, 0, 0, 0] R, graphics: false,
            note: "also reported: memory_gib_printed 46.5 (R)",
            compute: [
                "1c.2g.48gb-me", index: 0, slices: 1, max: 2 R, sm: 46 R, fills: false;
                "2g.48gb-me", index: 1, slices: 2, max: 1 R, sm: 94 R, fills: true;
            ];
        "4g.96gb" R, index: 3, id: 0 R, slices: 4,
            size: 12, starts: [0] R, max: 1 R,
            memory_mib: 97408 R, sm: 188 R, engines: [4, 4, 4, 4, 1] R, graphics: false,
            note: "also reported: memory_gib_printed 93.38 (R), memory_gib_printed 95.0 (R)",
            compute: [
                "1c.4g.96gb", index: 0, slices: 1, max: 4 I, sm: 46 I, fills: false;
                "2c.4g.96gb", index: 1, slices: 2, max: 2 I, sm: 94 I, fills: false;
                "4g.96gb", index: 3, slices: 4, max: 1 I, sm: 188 I, fills: true;
            ];
        "4g.96gb+gfx" R, index: 12, id: 32 R, slices: 4,
            size: 12, starts: [0] R, max: 1 R,
            memory_mib: 97408 R, sm: 188 R, engines: [4, 4, 4, 4, 1] R, graphics: true,
            note: "",
            compute: [
                "1c.4g.96gb+gfx", index: 0, slices: 1, max: 4 I, sm: 46 I, fills: false;
                "2c.4g.96gb+gfx", index: 1, slices: 2, max: 2 I, sm: 94 I, fills: false;
                "4g.96gb+gfx", index: 3, slices: 4, max: 1 I, sm: 188 I, fills: true;
            ];
    ],
};

static RTX_PRO_6000D: Board = board! {
    id: "rtx-pro-6000d",
    names: [] X, legacy: [],
    architecture: "Blackwell",
    pci: [0x2bb9] K,
    memory_mib: _, slices: 2, units: _, sm: _,
    min_driver: _, needs_reset: _, persistent: _, ids: _,
    note: "chip GB202; only vGPU SMC types 1-42 (MINI_HALF, GFX) and 2-84 (FULL, GFX) known",
    profiles: [
    ],
};

static RTX_PRO_5000_BLACKWELL_48GB: Board = board! {
    id: "rtx-pro-5000-blackwell-48gb",
    names: ["NVIDIA RTX PRO 5000 Blackwell"] K, legacy: [],
    architecture: "Blackwell",
    pci: [0x2bb3] K,
    memory_mib: _, slices: 2, units: _, sm: _,
    min_driver: "575.57.08" D, needs_reset: false, persistent: false, ids: _,
    note: "chip GB202; older v580 MIG guide listed another set: 1g.12gb x1, 1g.12gb+me x1, 1g.12gb+gfx x1, 1g.12gb-me x3, 2g.24gb-me x1, 4g.48gb, 4g.48gb+gfx. CE/hw IDs/placements unknown. min vBIOS 98.02.73.00.00",
    profiles: [
        "1g.24gb" D, index: 0, id: _, slices: 1,
            size: _, starts: _ X, max: 2 D,
            memory_mib: _, sm: _, engines: [1, 1, 1, 0, 0] D, graphics: false,
            note: "",
            compute: [
                "1g.24gb", index: 0, slices: 1, max: 1 I, sm: _, fills: true;
            ];
        "1g.24gb+me" D, index: 7, id: _, slices: 1,
            size: _, starts: _ X, max: 1 D,
            memory_mib: _, sm: _, engines: [1, 1, 1, 1, 1] D, graphics: false,
            note: "",
            compute: [
                "1g.24gb+me", index: 0, slices: 1, max: 1 I, sm: _, fills: true;
            ];
        "1g.24gb+gfx" D, index: 10, id: _, slices: 1,
            size: _, starts: _ X, max: 2 D,
            memory_mib: _, sm: _, engines: [1, 1, 1, 0, 0] D, graphics: true,
            note: "",
            compute: [
                "1g.24gb+gfx", index: 0, slices: 1, max: 1 I, sm: _, fills: true;
            ];
        "1g.24gb+me.all" D, index: 15, id: _, slices: 1,
            size: _, starts: _ X, max: 1 D,
            memory_mib: _, sm: _, engines: [1, 3, 3, 1, 1] D, graphics: false,
            note: "",
            compute: [
                "1g.24gb+me.all", index: 0, slices: 1, max: 1 I, sm: _, fills: true;
            ];
        "1g.24gb-me" D, index: 13, id: _, slices: 1,
            size: _, starts: _ X, max: 2 D,
            memory_mib: _, sm: _, engines: [1, 0, 0, 0, 0] D, graphics: false,
            note: "",
            compute: [
                "1g.24gb-me", index: 0, slices: 1, max: 1 I, sm: _, fills: true;
            ];
        "2g.48gb" D, index: 1, id: _, slices: 2,
            size: _, starts: _ X, max: 1 D,
            memory_mib: _, sm: _, engines: [4, 3, 3, 1, 1] D, graphics: false,
            note: "",
            compute: [
                "1c.2g.48gb", index: 0, slices: 1, max: 2 I, sm: _, fills: false;
                "2g.48gb", index: 1, slices: 2, max: 1 I, sm: _, fills: true;
            ];
        "2g.48gb+gfx" D, index: 11, id: _, slices: 2,
            size: _, starts: _ X, max: 1 D,
            memory_mib: _, sm: _, engines: [4, 3, 3, 1, 1] D, graphics: true,
            note: "",
            compute: [
                "1c.2g.48gb+gfx", index: 0, slices: 1, max: 2 I, sm: _, fills: false;
                "2g.48gb+gfx", index: 1, slices: 2, max: 1 I, sm: _, fills: true;
            ];
    ],
};

static RTX_PRO_4500_BLACKWELL_32GB: Board = board! {
    id: "rtx-pro-4500-blackwell-32gb",
    names: ["NVIDIA RTX PRO 4500 Blackwell"] N, legacy: [],
    architecture: "Blackwell",
    pci: [0x2c31] N,
    memory_mib: _, slices: 2, units: _, sm: _,
    min_driver: "575.64" D, needs_reset: false, persistent: false, ids: _,
    note: "chip GB203",
    profiles: [
        "1g.16gb" D, index: 0, id: _, slices: 1,
            size: _, starts: _ X, max: 2 D,
            memory_mib: _, sm: _, engines: [_, 1, 1, 1, 0] D, graphics: false,
            note: "",
            compute: [
                "1g.16gb", index: 0, slices: 1, max: 1 I, sm: _, fills: true;
            ];
        "1g.16gb+gfx" D, index: 10, id: _, slices: 1,
            size: _, starts: _ X, max: 2 D,
            memory_mib: _, sm: _, engines: [_, 1, 1, 1, 0] D, graphics: true,
            note: "",
            compute: [
                "1g.16gb+gfx", index: 0, slices: 1, max: 1 I, sm: _, fills: true;
            ];
        "1g.16gb+me.all" D, index: 15, id: _, slices: 1,
            size: _, starts: _ X, max: 1 D,
            memory_mib: _, sm: _, engines: [_, 3, 3, 2, 1] D, graphics: false,
            note: "",
            compute: [
                "1g.16gb+me.all", index: 0, slices: 1, max: 1 I, sm: _, fills: true;
            ];
        "1g.16gb-me" D, index: 13, id: _, slices: 1,
            size: _, starts: _ X, max: 2 D,
            memory_mib: _, sm: _, engines: [_, 0, 0, 0, 0] D, graphics: false,
            note: "",
            compute: [
                "1g.16gb-me", index: 0, slices: 1, max: 1 I, sm: _, fills: true;
            ];
        "2g.32gb" D, index: 1, id: _, slices: 2,
            size: _, starts: _ X, max: 1 D,
            memory_mib: _, sm: _, engines: [2, 3, 3, 2, 1] D, graphics: false,
            note: "",
            compute: [
                "1c.2g.32gb", index: 0, slices: 1, max: 2 I, sm: _, fills: false;
                "2g.32gb", index: 1, slices: 2, max: 1 I, sm: _, fills: true;
            ];
        "2g.32gb+gfx" D, index: 11, id: _, slices: 2,
            size: _, starts: _ X, max: 1 D,
            memory_mib: _, sm: _, engines: [_, _, _, _, _] X, graphics: true,
            note: "",
            compute: [
                "1c.2g.32gb+gfx", index: 0, slices: 1, max: 2 I, sm: _, fills: false;
                "2g.32gb+gfx", index: 1, slices: 2, max: 1 I, sm: _, fills: true;
            ];
    ],
};
