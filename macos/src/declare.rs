//! How foreign names are declared: one line each, with the types that Apple's headers give. `make ffi-audit` reads these
//! lines, so their form is fixed.

/// C functions of one library as a table that is filled at first use.
///
/// ```text
/// functions! { Functions from CoreFoundation {
///     fn CFRelease(object: Id);
/// } }
/// ```
/// gives `Functions::get() -> Result<&'static Functions, Missing>` with one function pointer a line.
macro_rules! functions {
    ($(#[$doc:meta])* $table:ident from $library:ident {
        $( $(#[$about:meta])* fn $name:ident( $($argument:ident : $type:ty),* $(,)? ) $(-> $result:ty)?; )*
    }) => {
        $(#[$doc])*
        #[allow(non_snake_case)]
        pub(crate) struct $table { $( $(#[$about])* pub(crate) $name: unsafe extern "C-unwind" fn($($type),*) $(-> $result)?, )* }

        #[allow(dead_code)]
        impl $table {
            /// Every name, for [`crate::inventory`].
            pub(crate) const TABLE: crate::inventory::Table = crate::inventory::Table {
                library: crate::library::Library::$library, class: None, names: &[$( (false, stringify!($name)) ),*] };

            /// The table, looked up once.
            pub(crate) fn get() -> Result<&'static Self, crate::library::Missing> {
                static TABLE: std::sync::OnceLock<Result<$table, crate::library::Missing>> = std::sync::OnceLock::new();
                let look_up = || Ok(Self { $(
                    // SAFETY: the symbol is the C function of this name, whose type stands above as in Apple's headers.
                    $name: unsafe {
                        std::mem::transmute::<*mut std::ffi::c_void, unsafe extern "C-unwind" fn($($type),*) $(-> $result)?>(
                            crate::library::Library::$library.symbol(stringify!($name))?,
                        )
                    },
                )* });
                TABLE.get_or_init(look_up).as_ref().map_err(Clone::clone)
            }
        }
    };
}

/// Exported variables, by library; each becomes a function that reads it. Once a file.
///
/// ```text
/// variables! { Foundation { NSDefaultRunLoopMode: Id; } }
/// ```
macro_rules! variables {
    ($( $library:ident { $( $(#[$about:meta])* $name:ident : $type:ty; )* } )*) => {
        /// Every name, for [`crate::inventory`].
        pub(crate) const VARIABLES: &[crate::inventory::Table] = &[$( crate::inventory::Table {
            library: crate::library::Library::$library, class: None, names: &[$( (false, stringify!($name)) ),*] } ),*];

        $( $(
            $(#[$about])*
            #[allow(non_snake_case, dead_code)]
            pub(crate) fn $name() -> Result<$type, crate::library::Missing> {
                let address = crate::library::Library::$library.symbol(stringify!($name))?;
                // SAFETY: the symbol is a variable of this type, as in Apple's headers, set before its library was loaded.
                Ok(unsafe { address.cast::<$type>().read() })
            }
        )* )*
    };
}

/// Methods of one class, `-` of its objects and `+` of itself, as in Objective-C.
///
/// ```text
/// objc_class! { NSWindow from AppKit {
///     - set_title = "setTitle:" (title: Id);
///     - frame = "frame" () -> Rect;
///     + shared = "sharedApplication" () -> Id;
/// } }
/// ```
/// gives `NSWindow::set_title(receiver, title)` and `NSWindow::shared()`. A message to nil, or to a class that is not
/// there, does nothing and gives zero.
macro_rules! objc_class {
    ($(#[$doc:meta])* $class:ident from $library:ident {
        $( $(#[$about:meta])* $kind:tt $name:ident = $selector:literal ( $($argument:ident : $type:ty),* $(,)? ) $(-> $result:ty)?; )*
    }) => {
        $(#[$doc])*
        #[allow(clippy::upper_case_acronyms)]
        pub(crate) struct $class;

        #[allow(dead_code, clippy::missing_safety_doc)]
        impl $class {
            /// Every selector, for [`crate::inventory`].
            pub(crate) const TABLE: crate::inventory::Table = crate::inventory::Table {
                library: crate::library::Library::$library,
                class: Some(stringify!($class)),
                names: &[$( (objc_class!(@own $kind), $selector) ),*],
            };

            /// The class, or nil when this system has none of that name.
            pub(crate) fn class() -> crate::runtime::Id {
                static CLASS: std::sync::OnceLock<crate::runtime::Shared> = std::sync::OnceLock::new();
                CLASS.get_or_init(|| crate::runtime::Shared(crate::runtime::class_named(
                    crate::library::Library::$library, stringify!($class)))).0
            }

            $( objc_class!(@method $kind $(#[$about])* $name $selector ($($argument: $type),*) ($($result)?)); )*
        }
    };
    (@own +) => { true };
    (@own -) => { false };
    (@method - $(#[$about:meta])* $name:ident $selector:literal ($($argument:ident : $type:ty),*) ($($result:ty)?)) => {
        $(#[$about])*
        #[allow(clippy::too_many_arguments)]
        pub(crate) unsafe fn $name(receiver: crate::runtime::Id, $($argument: $type),*) $(-> $result)? {
            objc_class!(@send receiver, $selector, ($($argument: $type),*), ($($result)?))
        }
    };
    (@method + $(#[$about:meta])* $name:ident $selector:literal ($($argument:ident : $type:ty),*) ($($result:ty)?)) => {
        $(#[$about])*
        #[allow(clippy::too_many_arguments)]
        pub(crate) unsafe fn $name($($argument: $type),*) $(-> $result)? {
            let receiver = Self::class();
            objc_class!(@send receiver, $selector, ($($argument: $type),*), ($($result)?))
        }
    };
    (@send $receiver:ident, $selector:literal, ($($argument:ident : $type:ty),*), ($($result:ty)?)) => {{
        static SELECTOR: std::sync::OnceLock<crate::runtime::Sel> = std::sync::OnceLock::new();
        type Result = objc_class!(@result $($result)?);
        let selector = *SELECTOR.get_or_init(|| crate::runtime::selector($selector));
        match crate::runtime::implementation::<Result>($receiver, selector) {
            // SAFETY: the receiver is an object of this class and takes the message with these types, as in Apple's
            // headers; that it is alive, and that the call may be made here, is the caller's promise.
            Some(code) => unsafe {
                let send = std::mem::transmute::<
                    crate::runtime::Imp,
                    unsafe extern "C-unwind" fn(crate::runtime::Id, crate::runtime::Sel, $($type),*) -> Result,
                >(code);
                send($receiver, selector, $($argument),*)
            },
            None => <Result as crate::runtime::Returned>::ZERO,
        }
    }};
    (@result) => { () };
    (@result $result:ty) => { $result };
}
