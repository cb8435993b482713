"""What detect.py does: pictures and videos in, drawn ones and lists of detections out."""
