//! What the formulas are written for: one number on the CPU, or all of an array's at once on a device.

use std::ops::{Add, Div, Mul, Sub};

use burn::tensor::Tensor;

/// A single-precision number, or a tensor of them.
pub(super) trait Number:
    Clone
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Add<f32, Output = Self>
    + Mul<f32, Output = Self>
{
    fn sqrt(self) -> Self;
    fn abs(self) -> Self;
    /// −1, 0 or 1.
    fn sign(self) -> Self;
    fn largest(self, other: Self) -> Self;
    fn within(self, limit: f32) -> Self;
    fn raised(self, exponent: f32) -> Self;
}

impl Number for f32 {
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    fn abs(self) -> Self {
        self.abs()
    }

    fn sign(self) -> Self {
        // Rust's signum of 0 is 1.
        if self == 0.0 { 0.0 } else { self.signum() }
    }

    fn largest(self, other: Self) -> Self {
        self.max(other)
    }

    fn within(self, limit: f32) -> Self {
        self.clamp(-limit, limit)
    }

    fn raised(self, exponent: f32) -> Self {
        self.powf(exponent)
    }
}

impl Number for Tensor<1> {
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    fn abs(self) -> Self {
        self.abs()
    }

    fn sign(self) -> Self {
        self.sign()
    }

    fn largest(self, other: Self) -> Self {
        self.max_pair(other)
    }

    fn within(self, limit: f32) -> Self {
        self.clamp(-limit, limit)
    }

    fn raised(self, exponent: f32) -> Self {
        self.powf_scalar(exponent)
    }
}
