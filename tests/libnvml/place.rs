//! The places in the caller's memory that results go to and arguments come from: the only file that follows pointers.
//! NVML asks of its callers that a pointer be NULL or point to what the function's documentation says; beyond NULL
//! nothing can be checked.

use std::ffi::{CStr, c_char};
use std::ptr::NonNull;

use sectile::ports::{Nvml, NvmlCode};

/// `NVML_STRUCT_VERSION`.
pub(crate) const fn version_of<T>(version: u32) -> u32 {
    size_of::<T>() as u32 | version << 24
}

/// A pointer to a `T`, to the first of several, or NULL.
#[repr(transparent)]
pub(crate) struct Out<T>(*mut T);

/// A pointer that is not NULL.
pub(crate) struct Place<T>(NonNull<T>);

impl<T: Copy> Out<T> {
    /// One that came within a struct.
    pub(crate) fn new(pointer: *mut T) -> Self {
        Out(pointer)
    }

    /// NULL is an invalid argument.
    pub(crate) fn place(self) -> Nvml<Place<T>> {
        NonNull::new(self.0).map(Place).ok_or(NvmlCode::InvalidArgument)
    }

    /// Puts there what is made; without a place for it nothing is.
    pub(crate) fn take(self, make: impl FnOnce() -> Nvml<T>) -> Nvml<()> {
        let place = self.place()?;
        place.set(make()?);
        Ok(())
    }

    pub(crate) fn is_null(&self) -> bool {
        self.0.is_null()
    }
}

impl<T: Copy> Place<T> {
    pub(crate) fn get(&self) -> T {
        // SAFETY: not NULL, so it points to a `T` of the caller's, who wrote it; how it is aligned doesn't matter.
        unsafe { self.0.as_ptr().read_unaligned() }
    }

    pub(crate) fn set(&self, value: T) {
        // SAFETY: not NULL, so it points to room for a `T` of the caller's; `T` is `Copy`, so nothing is dropped.
        unsafe { self.0.as_ptr().write_unaligned(value) }
    }

    /// Writes several behind each other.
    pub(crate) fn fill(&self, values: impl IntoIterator<Item = T>) {
        for (at, value) in values.into_iter().enumerate() {
            // SAFETY: not NULL, so it points to room for as many as the function's documentation says, and callers of
            // this give no more.
            unsafe { self.0.as_ptr().add(at).write_unaligned(value) }
        }
    }

    /// The `n`th of several.
    pub(crate) fn nth(&self, n: usize) -> Place<T> {
        // SAFETY: callers of this stay below the number that the caller of NVML gave, so it is within the same array.
        Place(unsafe { self.0.add(n) })
    }
}

/// A pointer to a struct that begins with its version, or NULL.
#[repr(transparent)]
pub(crate) struct Versioned(*mut u32);

impl Versioned {
    /// The place, if the struct is a `T` of that version.
    pub(crate) fn is<T: Copy>(&self, version: u32) -> Nvml<Option<Place<T>>> {
        let there = Out(self.0).place()?;
        // Whoever wrote the version of a `T` says that it is one.
        Ok((there.get() == version_of::<T>(version)).then_some(Place(there.0.cast())))
    }
}

/// A pointer to a text that ends with a zero, or NULL.
#[repr(transparent)]
pub(crate) struct Text(*const c_char);

impl Text {
    /// The text; an invalid argument where there is none, or no UTF-8.
    pub(crate) fn read(&self) -> Nvml<String> {
        if self.0.is_null() {
            return Err(NvmlCode::InvalidArgument);
        }
        // SAFETY: not NULL, so it points to a text of the caller's that ends with a zero.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str().map(str::to_owned).map_err(|_| NvmlCode::InvalidArgument)
    }
}

impl Out<c_char> {
    /// Writes a text with a zero behind it, if that is no longer than `length`.
    pub(crate) fn text(self, length: u32, make: impl FnOnce() -> Nvml<String>) -> Nvml<()> {
        let place = self.place()?;
        let text = make()?;
        if text.len() >= length as usize {
            return Err(NvmlCode::InsufficientSize);
        }
        place.fill(letters(&text).chain([0]));
        Ok(())
    }
}

/// A text in so many characters, the last of them zero.
pub(crate) fn fixed<const N: usize>(text: &str) -> [c_char; N] {
    let mut fixed = [0; N];
    for (place, letter) in fixed.iter_mut().take(N - 1).zip(letters(text)) {
        *place = letter;
    }
    fixed
}

fn letters(text: &str) -> impl Iterator<Item = c_char> {
    text.bytes().map(|byte| byte as c_char)
}
