//! ggml's types of tensors by their numbers.
//! <https://github.com/ggml-org/ggml/blob/v0.9.4/include/ggml.h>

use kinora_formats::{Blocks, Format};

/// The format of the type with this number, or else its name, if it has one.
pub(super) fn format_of(id: u32) -> Result<Format, Option<&'static str>> {
    Ok(match id {
        0 => Format::F32,
        1 => Format::F16,
        2 => Format::Blocks(Blocks::Q4_0),
        3 => Format::Blocks(Blocks::Q4_1),
        6 => Format::Blocks(Blocks::Q5_0),
        7 => Format::Blocks(Blocks::Q5_1),
        8 => Format::Blocks(Blocks::Q8_0),
        10 => Format::Blocks(Blocks::Q2K),
        11 => Format::Blocks(Blocks::Q3K),
        12 => Format::Blocks(Blocks::Q4K),
        13 => Format::Blocks(Blocks::Q5K),
        14 => Format::Blocks(Blocks::Q6K),
        20 => Format::Blocks(Blocks::Iq4Nl),
        23 => Format::Blocks(Blocks::Iq4Xs),
        24 => Format::I8,
        25 => Format::I16,
        26 => Format::I32,
        27 => Format::I64,
        28 => Format::F64,
        30 => Format::Bf16,
        other => return Err(unread(other)),
    })
}

fn unread(id: u32) -> Option<&'static str> {
    Some(match id {
        4 => "Q4_2",
        5 => "Q4_3",
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        21 => "IQ3_S",
        22 => "IQ2_S",
        29 => "IQ1_M",
        31 => "Q4_0_4_4",
        32 => "Q4_0_4_8",
        33 => "Q4_0_8_8",
        34 => "TQ1_0",
        35 => "TQ2_0",
        36 => "IQ4_NL_4_4",
        37 => "IQ4_NL_4_8",
        38 => "IQ4_NL_8_8",
        39 => "MXFP4",
        40 => "NVFP4",
        41 => "Q1_0",
        _ => return None,
    })
}
