//! The operands of attention, read where they are in their tensors.

use crate::cpu::Operand;
use candle_core::{D, Result, Tensor, WithDType};

/// Returns `x [B, L, N, D]` itself if the elements of a head are contiguous, otherwise a copy in which they are.
pub fn whole_heads(x: &Tensor) -> Result<Tensor> {
    let neighbours = x.dim(D::Minus1)? <= 1 || x.stride().last() == Some(&1);
    if neighbours { Ok(x.clone()) } else { x.contiguous() }
}

/// A tensor `[B, L, N, D]` of any strides whose heads are contiguous; heads are counted over clips and heads.
#[derive(Clone, Copy)]
pub struct Strided<'a, T> {
    data: &'a [T],
    /// Steps from one clip, token and head to the next.
    strides: [usize; 3],
    pub tokens: usize,
    pub heads: usize,
    pub dim: usize,
}

impl<'a, T: WithDType> Strided<'a, T> {
    /// `data` holds the elements of `x`.
    pub fn new(x: &Tensor, data: &'a Operand) -> Result<Self> {
        let (_, tokens, heads, dim) = x.dims4()?;
        let strides = std::array::from_fn(|axis| x.stride()[axis]);
        Ok(Self { data: data.slice()?, strides, tokens, heads, dim })
    }

    /// The elements of one token in one head.
    pub fn row(&self, head: usize, token: usize) -> &'a [T] {
        let [clip, next_token, next_head] = self.strides;
        let start = head / self.heads * clip + token * next_token + head % self.heads * next_head;
        &self.data[start..start + self.dim]
    }
}

/// A bias of the scores.
pub struct Bias<'a> {
    data: &'a [f32],
    /// The offset of the first query.
    start: usize,
    /// Steps from one clip, head and query to the next; 0 where they share the bias.
    strides: [isize; 3],
    keys: usize,
}

impl<'a> Bias<'a> {
    /// `data` holds the elements of `bias [1|B, 1|N, 1|L, S]`.
    pub fn new(bias: &Tensor, data: &'a Operand) -> Result<Self> {
        let (clips, heads, queries, keys) = bias.dims4()?;
        let stride = |count: usize, stride: usize| if count == 1 { 0 } else { stride as isize };
        let strides = [stride(clips, heads * queries * keys), stride(heads, queries * keys), stride(queries, keys)];
        Ok(Self { data: data.slice()?, start: 0, strides, keys })
    }

    /// `data` holds the elements of a bias `[N, L + S - 1]` by distance from query to key.
    pub fn relative(data: &'a Operand, queries: usize, keys: usize) -> Result<Self> {
        let distances = (queries + keys).saturating_sub(1);
        let start = queries.saturating_sub(1);
        Ok(Self { data: data.slice()?, start, strides: [0, distances as isize, -1], keys })
    }

    /// Returns the bias of a query's scores, for all keys.
    pub fn row(&self, clip: usize, head: usize, query: usize) -> &'a [f32] {
        let steps = [clip, head, query].into_iter().zip(self.strides);
        let start = steps.fold(self.start, |start, (count, stride)| start.wrapping_add_signed(count as isize * stride));
        &self.data[start..start + self.keys]
    }
}
