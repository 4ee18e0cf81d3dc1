//! Access to the object's maps by name.

use aya::{
    Ebpf,
    maps::{Map, MapError},
};

use crate::bpf::error::Error;

/// Wrapper that lets aya copy a plain value to and from the kernel.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Plain<T>(pub(crate) T);

/// A map that stays in the object, because programs that are loaded later refer to it.
pub(crate) fn map_mut<'a, T: TryFrom<&'a mut Map, Error = MapError>>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<T, Error> {
    let map = ebpf.map_mut(name).ok_or(Error::NotInObject(name))?;
    T::try_from(map).map_err(|source| Error::Map { name, source })
}

pub(crate) fn take_map<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, Error> {
    let map = ebpf.take_map(name).ok_or(Error::NotInObject(name))?;
    T::try_from(map).map_err(|source| Error::Map { name, source })
}
