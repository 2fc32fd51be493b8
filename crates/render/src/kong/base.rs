//! What the site keeps itself: a document of Kong in Git, read and never changed but where a split takes a service over.
