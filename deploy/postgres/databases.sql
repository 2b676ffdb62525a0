-- Run once, when the volume is empty. Text sorts by bytes, whatever locale the image was built with.
create database event_store template template0 encoding 'UTF8' locale_provider builtin builtin_locale 'C.UTF-8' locale 'C';
create database projections template template0 encoding 'UTF8' locale_provider builtin builtin_locale 'C.UTF-8' locale 'C';
