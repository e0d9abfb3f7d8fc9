"""What `gpudoctor watch` looks at again and again: each made once, then asked for every look."""
