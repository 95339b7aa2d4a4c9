"""The queue drained inside another program: start, put files into the directory, stop."""

import s3_uploader

stop = s3_uploader.process("config.json", interval=1)
input("Files in test/ are on their way. Press Enter to stop. ")
if stop:
    stop()
