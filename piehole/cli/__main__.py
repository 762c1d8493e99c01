from piehole.cli import main

main()
