"""The parts of a bucket check, a module for each subject; :mod:`s3_uploader.stores.s3.check` combines them."""
